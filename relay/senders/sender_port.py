"""The relay's one port: makes the protocol of each connection, counts them, and drains them."""

import asyncio
from typing import cast

from relay.doors.front_door import FrontDoor
from relay.links.registry import LISTENER, SENDER
from relay.metrics import RelayMetrics
from relay.senders.connection import SenderConnection
from relay.senders.link_door import LinkDoor
from relay.senders.making_room import MakingRoom
from trunkline.runtime.listening import Source


class SenderPort:
    """The factory of connections, once TLS is up; see `relay.port.acceptor`."""

    def __init__(self, front: FrontDoor, links: LinkDoor, metrics: RelayMetrics) -> None:
        self.front = front
        self.links = links
        self._accepted = metrics.connections.of()
        self._open = metrics.connections_open.of()
        self._links = metrics.links.of(LISTENER), metrics.links.of(SENDER)
        self._connections: set[SenderConnection] = set()
        self._making_room = MakingRoom(front, self._connections)
        self._none_left: asyncio.Future[None] | None = None
        self.closing = False

    def connection(self, source: Source) -> asyncio.Protocol:
        """The protocol for a new connection from an address."""
        return cast(asyncio.Protocol, SenderConnection(self, source))

    @property
    def open(self) -> int:
        """How many connections and links there are whose TLS is up."""
        listeners, senders = self._links
        return len(self._connections) + listeners.count + senders.count

    def admit(self, connection: SenderConnection) -> None:
        """Takes a connection whose handshake is done; how many there are is the acceptor's to bound."""
        self._accepted.count += 1
        self._connections.add(connection)
        self._open.count += 1
        self._making_room.came(connection)
        self.front.deadlines.watch(connection)

    def proved(self, connection: SenderConnection) -> None:
        """A connection has shown a credential: it is no stranger's."""
        self._making_room.proved(connection)

    def make_room(self, *, of_strangers: bool = False) -> bool:
        """Ends one connection for another that comes; see `MakingRoom.make`."""
        return self._making_room.make(of_strangers=of_strangers)

    def strangers_of(self, source: Source) -> int:
        """How many connections of an address have shown no credential."""
        return self._making_room.strangers_of(source)

    def forget(self, connection: SenderConnection) -> None:
        """A connection has ended, or a link has taken it over."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._making_room.gone(connection)
        self._open.count -= 1
        self.front.deadlines.forget(connection)
        if not self._connections and self._none_left is not None and not self._none_left.done():
            self._none_left.set_result(None)

    @property
    def connections(self) -> int:
        """How many connections of senders there are."""
        return len(self._connections)

    def announce_drain(self) -> None:
        """Makes the next response of every kept-alive connection the last; calls are still taken."""
        self.closing = True
        for connection in self._connections:
            connection.closing = True

    async def drain(self, timeout_seconds: float) -> bool:
        """Refuses new calls, lets those in progress end, then closes; returns whether all ended in time."""
        self.announce_drain()
        self.front.draining = True
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._none_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._none_left], timeout=timeout_seconds)
        finished = not self._connections
        for connection in list(self._connections):
            connection.abort()
        return finished
