"""What relays and agents make of the control plane's answers: a JSON object, a refusal, or nothing that is of use."""

import json
from typing import Any

import aiohttp

from trunkline.client.clock_offset import ClockOffset
from trunkline.client.connection_failures import failure_reason
from trunkline.client.distrust import remedy

MAX_ANSWER_BYTES = 16 * 1024 * 1024
LONGEST_RETRY_AFTER_SECONDS = 60.0


class ControlPlaneRefused(Exception):  # noqa: N818 - an answer, not a mistake
    """The control plane has answered with an error; `retry_after_seconds` is for how long it wants to be left alone."""

    def __init__(self, status: int, error_code: str, message: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(f"{message} ({error_code or status})")
        self.status = status
        self.error_code = error_code
        self.retry_after_seconds = retry_after_seconds

    @property
    def permanent(self) -> bool:
        """Whether the same request would be refused again."""
        return 400 <= self.status < 500 and self.status not in (408, 425, 429)

    @property
    def is_about_the_request(self) -> bool:
        """Whether what was sent is at fault, and not who sent it: another request may be granted."""
        return self.status in (400, 409, 413)


class ControlPlaneUnreachable(Exception):  # noqa: N818 - a state of the world, not a mistake
    """There is no usable answer: no connection, no trust, no time, or no JSON."""


class ClockSkewed(ControlPlaneUnreachable):
    """This machine's clock is too wrong to go on with; the message says by how much."""


def require_clock(clock_offset: ClockOffset) -> None:
    """Refuse to go on with a clock that the last answer showed to be wrong.

    Raises:
        ClockSkewed: it is off by more than is tolerated.
    """
    complaint = clock_offset.complaint()
    if complaint is not None:
        raise ClockSkewed(complaint)


async def read_object(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        ControlPlaneUnreachable: it is none, or larger than `MAX_ANSWER_BYTES`.
    """
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ControlPlaneUnreachable(f"the control plane's answer is larger than {MAX_ANSWER_BYTES} bytes")
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ControlPlaneUnreachable("the control plane's answer is not a JSON object; is the address right?")
    return document


async def read_refusal(response: aiohttp.ClientResponse) -> ControlPlaneRefused:
    """Return what an answer with an error says."""
    try:
        document = await read_object(response)
    except ControlPlaneUnreachable:
        document = {}
    message = str(document.get("message") or f"the control plane answered with status {response.status}")
    retry_after_seconds = _seconds(response.headers.get("Retry-After"))
    return ControlPlaneRefused(response.status, str(document.get("error_code", "")), message, retry_after_seconds)


def unreachable(url: str, error: Exception, clock_offset: ClockOffset, way: str = "") -> ControlPlaneUnreachable:
    """Return why there is no answer: the clock, where its certificate is not valid at the time that it shows.

    `way` is what the request went through, as words behind the address, since it may be that which does not answer.
    """
    untrusted = error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else None
    complaint = clock_offset.complaint_about(untrusted or error)
    if complaint is not None:
        return ClockSkewed(complaint)
    if untrusted is None:
        return ControlPlaneUnreachable(f"cannot reach the control plane {url}{way}: {_reason(error)}")
    mended = remedy(untrusted, roots="control_plane.ca_file", address="control_plane.url")
    return ControlPlaneUnreachable(
        f"cannot reach the control plane {url}{way}: its certificate is not trusted: {untrusted}{mended}"
    )


def _seconds(retry_after: str | None) -> float:
    """Read the form of Retry-After that the control plane writes; nobody is sent away for longer than a minute."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return 0.0
    return min(float(retry_after[:9]), LONGEST_RETRY_AFTER_SECONDS)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return failure_reason(error)
