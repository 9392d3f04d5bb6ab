"""The handshakes in progress: each from its turn to the end, when the connection is the port's or is closed.

Theory of operation. `Acceptor` begins those whom `HandshakeQueue` lets, and hears of every end, whichever it is: TLS is
up, or failed, or took too long, the peer is gone, or the handshake was displaced for the sake of others. `Hellos`
awaits the first words, of which few are answered in a turn; only then are a transport and a TLS state made.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from relay.bounds.spreading import Spreading
from relay.metrics import RelayMetrics
from relay.port.arrivals import Arrival
from relay.port.fresh_memory import FreshMemory
from relay.port.handshake_queue import HandshakeQueue
from relay.port.hellos import Hellos
from relay.senders.sender_port import SenderPort
from trunkline.channel.closing import LONGEST_SECONDS

SHUTDOWN_SECONDS: Final = 5.0
LEAST_SECONDS: Final = 0.001


class HandshakeFailure(StrEnum):
    """Why a connection ended before TLS was set up; the values are those of a label."""

    TLS = "tls"
    CLOSED = "closed"
    DEADLINE = "deadline"
    DISPLACED = "displaced"


class Handshakes:
    """Has TLS set up on the arrivals that the queue has in progress."""

    def __init__(
        self,
        queue: HandshakeQueue[Arrival],
        *,
        port: SenderPort,
        context: ssl.SSLContext,
        metrics: RelayMetrics,
        give_back: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        """Begin with none.

        Args:
            queue: where each is in progress already when it begins, and taken out of at its end.
            port: gets the connections once TLS is up.
            context: of the TLS.
            metrics: where it counts.
            give_back: returns free memory to the system.
            ended: called at each end, behind all that follows from it.
        """
        self._loop = asyncio.get_running_loop()
        self._queue = queue
        self._port = port
        self._context = context
        self._seconds = port.front.limits.handshake_seconds
        self._ended = ended
        self._hellos = Hellos(self._loop, answer=self._answer, late=self._silent)
        self._slow: Spreading[Arrival] = Spreading(self._loop, self._displace)
        self._memory = FreshMemory(give_back)
        self._open = metrics.handshakes_open.of()
        self._begun = metrics.handshakes.of()
        self._failures = {reason: metrics.handshake_failures.of(reason) for reason in HandshakeFailure}

    def begin(self, arrival: Arrival) -> None:
        """Await the first words of an arrival, and answer them; it has what is left of its time since it came."""
        self._begun.count += 1
        self._open.count += 1
        self._hellos.expect(arrival, arrival.accepted_at + self._seconds)

    def established(self, arrival: Arrival, transport: asyncio.BaseTransport) -> None:
        """TLS is up: the connection is the port's."""
        self._end(arrival, succeeded_at=self._loop.time())
        connection = self._port.connection(arrival.source)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if certificate := transport.get_extra_info("peercert"):
            self._memory.agent_came(self._loop.time())
            # Told in words, it is 2 KiB for as long as a link lives: identities are read from the certificate itself.
            certificate.clear()

    def displace(self, arrivals: Iterable[Arrival]) -> None:
        """End these for the sake of others, a few at a time."""
        self._slow.add(arrivals)

    def count_failed(self, reason: HandshakeFailure, count: int = 1) -> None:
        """Count those that ended without having begun."""
        self._failures[reason].count += count

    async def stop(self) -> None:
        """End all of them; returns once that is done, or after `SHUTDOWN_SECONDS`."""
        self._slow.drop()
        self._hellos.answer_all()
        for arrival in list(self._queue.in_progress):
            self._displace(arrival)
        tasks = [arrival.task for arrival in self._queue.in_progress if arrival.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=SHUTDOWN_SECONDS)

    def _answer(self, arrival: Arrival) -> None:
        arrival.task = self._loop.create_task(self._set_up(arrival))

    def _silent(self, arrival: Arrival, reason: HandshakeFailure = HandshakeFailure.DEADLINE) -> None:
        """Its first words have not come: nothing was spent on it yet."""
        arrival.refuse()
        self.count_failed(reason)
        self._end(arrival)

    async def _set_up(self, arrival: Arrival) -> None:
        """Have TLS set up; `established` is called from within, or this learns why not."""
        now = self._loop.time()
        self._memory.handshake_begins(now)
        try:
            await self._loop.connect_accepted_socket(
                lambda: arrival,
                arrival.socket,
                ssl=self._context,
                ssl_handshake_timeout=max(LEAST_SECONDS, arrival.accepted_at + self._seconds - now),
                ssl_shutdown_timeout=LONGEST_SECONDS,
            )
        except OSError as error:
            if arrival in self._queue.in_progress:
                self.count_failed(_why(arrival, error))
            # The loops' frames hold the error, and it holds them with the transport: without this, all of that and
            # its buffers wait for a search for cycles.
            error.__traceback__ = None
        finally:
            if arrival in self._queue.in_progress:
                self._end(arrival)

    def _displace(self, arrival: Arrival) -> None:
        if arrival not in self._queue.in_progress:
            return
        arrival.displaced = True
        if self._hellos.forget(arrival):
            self._silent(arrival, HandshakeFailure.DISPLACED)
        else:
            arrival.displace()

    def _end(self, arrival: Arrival, succeeded_at: float | None = None) -> None:
        self._queue.end(arrival, succeeded_at)
        self._open.count -= 1
        self._ended()


def _why(arrival: Arrival, error: OSError) -> HandshakeFailure:
    """Name the reason by what the event loops raise: they agree on these types, if not on the words."""
    if arrival.displaced:
        return HandshakeFailure.DISPLACED
    if isinstance(error, (ConnectionAbortedError, TimeoutError)):
        return HandshakeFailure.DEADLINE
    if isinstance(error, ssl.SSLError):
        return HandshakeFailure.TLS
    return HandshakeFailure.CLOSED
