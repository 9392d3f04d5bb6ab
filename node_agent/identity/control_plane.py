"""The agent's side of the control plane's API: JSON over HTTPS, with the node's certificate where it has one."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from certs.errors import CertificateError
from certs.identities import Identity
from node_agent.identity.control_plane_tls import ControlPlaneTls
from trunkline.channel.proxy_connect import ProxyAddress
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import Clock
from trunkline.version import __version__

MAX_ANSWER_BYTES = 16 * 1024 * 1024
FIRST_ERROR_STATUS = 300
LONGEST_RETRY_AFTER_SECONDS = 60.0
TRUST_SEQUENCE_FIELD = "Trunkline-Trust-Sequence"
MOST_SEQUENCE_DIGITS = 16


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


class ControlPlane:
    """Requests to one control plane. They are rare, so each has a connection of its own."""

    def __init__(
        self,
        url: str,
        tls: ControlPlaneTls,
        *,
        proxy: ProxyAddress | None,
        request_seconds: float,
        clock: Clock,
        clock_offset: ClockOffset,
    ) -> None:
        self.url = url
        self._tls = tls
        self._proxy = proxy
        self._timeout = aiohttp.ClientTimeout(total=request_seconds)
        self._clock = clock
        self._clock_offset = clock_offset
        self._told: list[Callable[[int], None]] = []

    def on_trust_sequence(self, told: Callable[[int], None]) -> None:
        """Have `told` called with the number of the newest trust document, which every answer states."""
        self._told.append(told)

    async def call(
        self,
        path: str,
        document: Mapping[str, Any] | None = None,
        *,
        identity: Identity | None = None,
        method: str = "POST",
    ) -> dict[str, Any]:
        """Send one document and return the JSON object of the answer.

        Raises:
            ControlPlaneRefused: it was answered with an error.
            ClockSkewed: its certificate is not valid at the time that this machine's clock shows.
            ControlPlaneUnreachable: it was not answered, or not in a usable way.
        """
        try:
            connector = aiohttp.TCPConnector(ssl=self._tls.context(identity), force_close=True)
            async with aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session:
                return await self._ask(session, method, path, document)
        except (TimeoutError, aiohttp.ClientError, OSError, CertificateError) as error:
            complaint = self._clock_offset.complaint_about(_foreign(error))
            if complaint is not None:
                raise ClockSkewed(complaint) from None
            raise ControlPlaneUnreachable(f"cannot reach the control plane {self.url}: {_reason(error)}") from None

    def require_clock(self) -> None:
        """Refuse to go on with a clock that the last answer showed to be wrong.

        Raises:
            ClockSkewed: it is off by more than is tolerated.
        """
        complaint = self._clock_offset.complaint()
        if complaint is not None:
            raise ClockSkewed(complaint)

    async def _ask(
        self, session: aiohttp.ClientSession, method: str, path: str, document: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        sent_at = self._clock.now()
        async with session.request(
            method,
            self.url + path,
            json=(document or {}) if method == "POST" else None,
            allow_redirects=False,
            headers={"User-Agent": f"trunkline-node-agent/{__version__}"},
            proxy=None if self._proxy is None else str(self._proxy),
            proxy_headers=self._proxy_headers(),
        ) as response:
            self._clock_offset.observe(response.headers.get("Date"), sent_at, self._clock.now())
            self._note_trust_sequence(response.headers.get(TRUST_SEQUENCE_FIELD, ""))
            body = await _read_bounded(response)
        if response.status >= FIRST_ERROR_STATUS:
            raise _refusal(response.status, body, response.headers.get("Retry-After"))
        return _object_of(body)

    def _note_trust_sequence(self, stated: str) -> None:
        if stated.isascii() and stated.isdigit() and len(stated) <= MOST_SEQUENCE_DIGITS:
            for told in self._told:
                told(int(stated))

    def _proxy_headers(self) -> dict[str, str] | None:
        if self._proxy is None or self._proxy.authorization is None:
            return None
        return {"Proxy-Authorization": self._proxy.authorization}


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MAX_ANSWER_BYTES:
            raise ControlPlaneUnreachable(f"the control plane's answer is larger than {MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _object_of(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ControlPlaneUnreachable("the control plane's answer is not a JSON object; is the address right?")
    return document


def _refusal(status: int, body: bytes, retry_after: str | None) -> ControlPlaneRefused:
    try:
        document = _object_of(body)
    except ControlPlaneUnreachable:
        document = {}
    message = str(document.get("message") or f"the control plane answered with status {status}")
    return ControlPlaneRefused(status, str(document.get("error_code", "")), message, _seconds(retry_after))


def _seconds(retry_after: str | None) -> float:
    """Read the form of Retry-After that the control plane writes; nobody is sent away for longer than a minute."""
    if retry_after is None or not (retry_after.isascii() and retry_after.isdigit()):
        return 0.0
    return min(float(retry_after[:9]), LONGEST_RETRY_AFTER_SECONDS)


def _foreign(error: Exception) -> BaseException:
    return error.certificate_error if isinstance(error, aiohttp.ClientConnectorCertificateError) else error


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {error.certificate_error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
