"""The relay's side of the control plane's API: JSON over HTTPS, with the relay's certificate once it has one."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from certs.control_plane_server import ended_server, foreign_server, server_serial
from certs.tls import TlsContext
from certs.trust import CertificateVerdict
from trunkline.client.clock_offset import ClockOffset
from trunkline.client.control_plane_answers import (
    ControlPlaneUnreachable,
    read_object,
    read_refusal,
    require_clock,
    unreachable,
)
from trunkline.client.vetted_connector import VettedConnector
from trunkline.runtime.clock import SystemClock
from trunkline.version import __version__

REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 10.0


class IdentityReplaced(Exception):  # noqa: N818 - expected, and nobody's mistake
    """A stream was ended here, since it was opened with an identity that the relay has replaced: open it anew."""


class ControlPlaneClient:
    """Requests to one control plane. Its connections are made anew when the relay's identity changes."""

    def __init__(
        self,
        url: str,
        tls: TlsContext,
        clock_offset: ClockOffset | None = None,
        *,
        verdict: CertificateVerdict,
    ) -> None:
        """Prepare it.

        Args:
            url: where the control plane is.
            tls: the relay's identity, and whom it trusts.
            clock_offset: is told the time by every answer; what is made of it is its owner's to say.
            verdict: what has ended the use of a certificate of the control plane's, by its serial number.
        """
        self._url = url
        self._tls = tls
        self._clock_offset = clock_offset or ClockOffset(SystemClock())
        self._session: aiohttp.ClientSession | None = None
        self._followed: set[aiohttp.ClientResponse] = set()
        self._swaps = 0
        self._verdict = verdict
        self._shown: set[str] = set()
        """The serial numbers of the control plane's certificates that connections of this session were made with."""

    def swap(self, tls: TlsContext, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Use another identity from the next request on; requests under way are cut, in a task that `spawn` starts."""
        self._tls = tls
        self._swaps += 1
        self._shown.clear()
        # A session that closes does not wake whoever waits for the next piece of a stream: the stream itself does.
        for response in tuple(self._followed):
            response.close()
        session, self._session = self._session, None
        if session is not None:
            spawn(session.close())

    def cut_ended(self, spawn: Callable[[Coroutine[Any, Any, None]], object]) -> None:
        """Cut requests under way, as `swap` does, where a certificate that was shown is revoked or locked by now."""
        if any(self._verdict(serial) is not None for serial in self._shown):
            self.swap(self._tls, spawn)

    def require_clock(self) -> None:
        """Refuse to go on with a clock that the last answer showed to be wrong.

        Raises:
            ClockSkewed: it is off by more than is tolerated.
        """
        require_clock(self._clock_offset)

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
            return await read_object(response)

    @asynccontextmanager
    async def follow(self, path: str, *, silence_seconds: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a stream of events, which may not be silent for longer than the time given; yields its bytes.

        Raises:
            ControlPlaneRefused, ControlPlaneUnreachable: as `call`; inside the block too.
            IdentityReplaced: the stream has ended, or was not to be had, because of a `swap`.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=silence_seconds)
        swaps = self._swaps
        try:
            async with self._request("GET", path, None, timeout) as response:
                if response.content_type != "text/event-stream":
                    raise ControlPlaneUnreachable("the control plane's answer is no stream of events")
                self._followed.add(response)
                try:
                    yield _pieces(response, silence_seconds)
                finally:
                    self._followed.discard(response)
        except ControlPlaneUnreachable:
            if swaps != self._swaps:
                raise IdentityReplaced from None
            raise

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
                    raise await read_refusal(response)
                yield response
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self._url, error, self._clock_offset) from None

    def _vet(self, transport: asyncio.BaseTransport) -> str | None:
        serial = server_serial(transport)
        self._shown.add(serial)
        return foreign_server(transport) or ended_server(serial, self._verdict)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=VettedConnector(self._vet, ssl=self._tls, limit=8),
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
