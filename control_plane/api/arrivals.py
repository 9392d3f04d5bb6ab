"""The port of the API: connections from the moment they are accepted until TLS is set up, counted by address.

Whoever has shown nothing yet can hold connections for as long as a handshake, or a request, may take, with not one
byte sent. So of one address only so many are taken that have shown no certificate, and the fewer the less room is left:
one that has more than are left for everybody gets no further one, so that a handful of addresses leave room for those
that have none. What is beyond a bound is closed at once, before anything is spent on it. Who has shown a certificate
counts by that, since many nodes may share an address; nodes that lie, or were revoked, which no handshake asks, must
not keep the others out either, and have a smaller part of what is left. Relays are few, and have what they need.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from certs.peers import PeerCertificate, peer_certificate
from certs.spiffe import IdentityRole
from certs.tls import TlsContext
from trunkline.runtime.accepting import REST_SECONDS, accept_some
from trunkline.runtime.listening import Source, listen_everywhere, listen_on, source_of
from trunkline.runtime.logs import get_logger

BACKLOG: Final = 1024
NODE_PART: Final = 16
"""A node has as many connections as a sixteenth of what is left, and one more; an agent needs two or three."""


@dataclass(frozen=True, slots=True)
class ArrivalBounds:
    """How many connections there may be: in all, of an address without certificates, of an identity; and TLS's time.

    Where one address may have all, as that of a balancer, it is everybody's, and never has too many.
    """

    most: int
    most_per_address: int
    most_per_identity: int
    handshake_seconds: float
    shutdown_seconds: float


class Arrivals:
    """Accepts connections, sets up TLS, and hands them on; its length is how many have no TLS yet."""

    def __init__(
        self,
        context: TlsContext,
        bounds: ArrivalBounds,
        *,
        connections: Callable[[], int],
        serve: Callable[[], asyncio.Protocol],
        refused: Callable[[str], None],
    ) -> None:
        """Prepare it.

        Args:
            context: of TLS.
            bounds: of what is taken.
            connections: how many there are, of those that were handed on.
            serve: makes the protocol of a connection whose TLS is set up.
            refused: is told why one was closed at once: `too_many`, and that with `_of_address` or `_of_identity`.
        """
        self._context = context
        self._bounds = bounds
        self._connections = connections
        self._serve = serve
        self._refused = refused
        self._listening: list[socket.socket] = []
        self._arriving: set[asyncio.Task[None]] = set()
        self._counts: Counter[Hashable] = Counter()
        """Connections by address, or, once they have shown a certificate, by whose it is."""
        self._owners: dict[asyncio.BaseTransport, Hashable] = {}

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
        owner = self._owners.pop(transport, None)
        if owner is not None:
            self._leave(owner)

    def _watch(self, listening: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        error = accept_some(listening, self._take)
        if error is not None:
            self._rest(listening, error)

    @property
    def _room(self) -> int:
        return self._bounds.most - len(self) - self._connections()

    def _refusal(self, source: Source) -> str | None:
        """Say why an address gets no connection, or None."""
        bounds, room, count = self._bounds, self._room, self._counts[source]
        if room <= 0:
            return "too_many"
        if count >= bounds.most_per_address or (count > room and bounds.most_per_address < bounds.most):
            return "too_many_of_address"
        return None

    def _has_too_many(self, peer: PeerCertificate, identity: Hashable) -> bool:
        """Whether an identity gets no further connection; this one, whose task goes on, takes two places meanwhile."""
        count, room = self._counts[identity], max(self._room, 0)
        is_relay = peer.spiffe_id is not None and peer.spiffe_id.role is IdentityRole.RELAY
        return count >= self._bounds.most_per_identity or (not is_relay and count * NODE_PART > room)

    def _take(self, accepted: socket.socket, place: tuple[Any, ...]) -> None:
        source = source_of(place)
        reason = self._refusal(source)
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
        """From now on it counts if it is there: towards its address, or towards whoever's certificate it has shown."""
        transport = arrival.transport
        if transport is None or transport.is_closing():
            self._leave(source)
            return
        peer = peer_certificate(transport)
        if peer is None:
            self._owners[transport] = source
            return
        self._leave(source)
        identity = _identity_of(peer)
        if self._has_too_many(peer, identity):
            transport.abort()
            self._refused("too_many_of_identity")
            return
        self._counts[identity] += 1
        self._owners[transport] = identity

    def _leave(self, owner: Hashable) -> None:
        self._counts[owner] -= 1
        if not self._counts[owner]:
            del self._counts[owner]

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


def _identity_of(peer: PeerCertificate) -> Hashable:
    """Whose a certificate is: renewing one makes nobody another."""
    return peer.spiffe_id or peer.thumbprint
