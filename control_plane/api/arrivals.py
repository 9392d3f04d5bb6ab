"""The port of the API: connections from the moment they are accepted until TLS is set up, counted by address.

Whoever has shown nothing yet can hold connections for as long as a handshake, or a request, may take, with not one
byte sent. So of one address only so many are taken that have shown no certificate: an attacker needs many addresses to
keep everybody else out. What is beyond a bound is closed at once, before anything is spent on it.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from certs.tls import TlsContext
from trunkline.runtime.accepting import REST_SECONDS, accept_some
from trunkline.runtime.listening import Source, listen_everywhere, listen_on, source_of
from trunkline.runtime.logs import get_logger

BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class ArrivalBounds:
    """How many connections of one address there may be that have shown no certificate, and how long TLS may take."""

    most_per_address: int
    handshake_seconds: float
    shutdown_seconds: float


class Arrivals:
    """Accepts connections, sets up TLS, and hands them on; its length is how many have no TLS yet."""

    def __init__(
        self,
        context: TlsContext,
        bounds: ArrivalBounds,
        *,
        is_full: Callable[[], bool],
        serve: Callable[[], asyncio.Protocol],
        refused: Callable[[str], None],
    ) -> None:
        """Prepare it.

        Args:
            context: of TLS.
            bounds: of what is taken.
            is_full: whether there are as many connections as there may be.
            serve: makes the protocol of a connection whose TLS is set up.
            refused: is told why a connection was closed at once: `too_many`, `too_many_of_address`.
        """
        self._context = context
        self._bounds = bounds
        self._is_full = is_full
        self._serve = serve
        self._refused = refused
        self._listening: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._counts: Counter[Source] = Counter()
        self._without_certificate: dict[asyncio.BaseTransport, Source] = {}

    def __len__(self) -> int:
        return len(self._arriving)

    @property
    def port(self) -> int:
        """The port that is listened on, once it is."""
        return int(self._listening[0].getsockname()[1])

    async def listen(self, address: str, port: int) -> None:
        """Listen on all addresses that a name has, or on all there are where it is empty.

        Raises:
            OSError: there is no such address, or it is taken.
        """
        self._listening = await listen_everywhere(address, port, partial(listen_on, backlog=BACKLOG))
        for listening in self._listening:
            self._watch(listening)

    def stop_accepting(self) -> None:
        """Listen no more; those that are setting up TLS go on."""
        for listening in self._listening:
            if listening.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(listening.fileno())
                listening.close()

    async def close(self) -> None:
        """Listen no more, and give up those that are setting up TLS."""
        self.stop_accepting()
        arriving = list(self._arriving)
        for task in arriving:
            task.cancel()
        await asyncio.gather(*arriving, return_exceptions=True)

    def gone(self, transport: asyncio.BaseTransport) -> None:
        """Hear that a connection which was handed on is no more."""
        source = self._without_certificate.pop(transport, None)
        if source is not None:
            self._leave(source)

    def _watch(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        error = accept_some(listening, self._take)
        if error is not None:
            self._rest(listening, error)

    def _take(self, accepted: socket.socket, place: tuple[Any, ...]) -> None:
        source = source_of(place)
        reason = "too_many" if self._is_full() else None
        if self._counts[source] >= self._bounds.most_per_address:
            reason = reason or "too_many_of_address"
        if reason is not None:
            accepted.close()
            self._refused(reason)
            return
        accepted.setblocking(False)
        self._counts[source] += 1
        task = asyncio.get_running_loop().create_task(self._set_up(accepted, source))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _set_up(self, accepted: socket.socket, source: Source) -> None:
        arrival = _Arrival(self._serve)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: arrival,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=self._bounds.handshake_seconds,
                ssl_shutdown_timeout=self._bounds.shutdown_seconds,
            )
        except OSError as error:
            error.__traceback__ = None  # it holds frames, and they hold it, and the transport with its buffers
        finally:
            self._arrived(arrival, source)

    def _arrived(self, arrival: "_Arrival", source: Source) -> None:
        """From now on it counts towards its address only if it is there, and has shown no certificate."""
        transport = arrival.transport
        if transport is None or transport.is_closing() or transport.get_extra_info("peercert"):
            self._leave(source)
        else:
            self._without_certificate[transport] = source

    def _leave(self, source: Source) -> None:
        self._counts[source] -= 1
        if not self._counts[source]:
            del self._counts[source]

    def _rest(self, listening: socket.socket, error: OSError) -> None:
        log = get_logger("control_plane.api")
        log.warning("api.accepting_rests", reason=error.strerror, hint="raise LimitNOFILE")
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening.fileno())
        loop.call_later(REST_SECONDS, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._watch(listening)


class _Arrival(asyncio.Protocol):
    """A connection until TLS is set up, for which it is then served."""

    def __init__(self, serve: Callable[[], asyncio.Protocol]) -> None:
        self._serve = serve
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        connection = self._serve()
        transport.set_protocol(connection)
        connection.connection_made(transport)
