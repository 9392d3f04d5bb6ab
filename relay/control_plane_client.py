"""The relay's side of the control plane's API: JSON over HTTPS, with the relay's certificate once it has one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from certs.tls import TlsContext
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import SystemClock
from trunkline.version import __version__

MAX_ANSWER_BYTES = 16 * 1024 * 1024
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 10.0


class ControlPlaneRefused(Exception):  # noqa: N818 - an answer, not a mistake
    """The control plane has answered, with an error."""

    def __init__(self, status: int, error_code: str, message: str) -> None:
        super().__init__(f"{message} ({error_code or status})")
        self.status = status
        self.error_code = error_code

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


class ControlPlaneClient:
    """Requests to one control plane. Its connections are made anew when the relay's identity changes."""

    def __init__(self, url: str, tls: TlsContext, clock_offset: ClockOffset | None = None) -> None:
        """Prepare; every answer tells `clock_offset` the time, and what is made of it is its owner's to say."""
        self._url = url
        self._tls = tls
        self._clock_offset = clock_offset or ClockOffset(SystemClock())
        self._session: aiohttp.ClientSession | None = None
        self._followed: set[aiohttp.ClientResponse] = set()

    def swap(self, tls: TlsContext, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Use another identity from the next request on; requests under way are cut, in a task that `spawn` starts."""
        self._tls = tls
        # A session that closes does not wake whoever waits for the next piece of a stream: the stream itself does.
        for response in tuple(self._followed):
            response.close()
        session, self._session = self._session, None
        if session is not None:
            spawn(session.close())

    def require_clock(self) -> None:
        """Refuse to go on with a clock that the last answer showed to be wrong.

        Raises:
            ClockSkewed: it is off by more than is tolerated.
        """
        complaint = self._clock_offset.complaint()
        if complaint is not None:
            raise ClockSkewed(complaint)

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def call(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make one request and return the JSON object of its answer.

        Raises:
            ControlPlaneRefused: it was answered with an error.
            ClockSkewed: its certificate is not valid at the time that this machine's clock shows.
            ControlPlaneUnreachable: it was not answered, or not in a usable way.
        """
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS)
        async with self._request(method, path, document, timeout) as response:
            return _object_of(await _read_bounded(response))

    @asynccontextmanager
    async def follow(self, path: str, *, silence_seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of events, which may not be silent for longer than the time given; yields its bytes.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: as `call`; inside the block too.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        async with self._request("GET", path, None, timeout) as response:
            if response.content_type != "text/event-stream":
                raise ControlPlaneUnreachable("the control plane's answer is no stream of events")
            self._followed.add(response)
            try:
                yield _pieces(response, silence_seconds)
            finally:
                self._followed.discard(response)

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, document: Mapping[str, Any] | None, timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent_at = self._clock_offset.clock.now()
        try:
            async with self._open().request(
                method, self._url + path, json=document, timeout=timeout, allow_redirects=False
            ) as response:
                self._clock_offset.observe(response.headers.get("Date"), sent_at, self._clock_offset.clock.now())
                if response.status >= 300:
                    raise await _refusal(response)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            complaint = self._clock_offset.complaint_about(_foreign(error))
            if complaint is not None:
                raise ClockSkewed(complaint) from None
            raise ControlPlaneUnreachable(f"cannot reach the control plane {self._url}: {_reason(error)}") from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, limit=8),
                headers={"User-Agent": f"trunkline-relay/{__version__}"},
                auto_decompress=False,
                read_bufsize=256 * 1024,
            )
        return self._session


async def _pieces(response: aiohttp.ClientResponse, silence_seconds: float) -> AsyncIterator[bytes]:
    pieces = response.content.iter_any()
    while True:
        try:
            # The session's own timeout ends with its connection; this one does not.
            async with asyncio.timeout(silence_seconds):
                piece = await anext(pieces)
            yield piece
        except StopAsyncIteration:
            return
        except RuntimeError as error:  # what aiohttp raises where the session was closed between two reads
            raise ControlPlaneUnreachable(f"the stream of events was closed: {error}") from None


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


async def _refusal(response: aiohttp.ClientResponse) -> ControlPlaneRefused:
    try:
        document = _object_of(await _read_bounded(response))
    except ControlPlaneUnreachable:
        document = {}
    message = str(document.get("message") or f"the control plane answered with status {response.status}")
    return ControlPlaneRefused(response.status, str(document.get("error_code", "")), message)


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
