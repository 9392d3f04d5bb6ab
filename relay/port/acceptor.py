"""Accepts the relay's connections: every socket counts from the moment it is there, and no bound is passed.

Theory of operation. A turn of the loop in which a listening socket has connections accepts a few of them, so that a
storm of arrivals does not hold up the calls in progress; what is not accepted waits in the kernel. `HandshakeQueue`
says which may set up TLS, and `Handshakes` has that done. At each bound:

    connections in all       one that does nothing makes room (see `MakingRoom`); where there is none, the newest is
                             closed at once: the others may stay for hours, and the peer has other relays
    strangers of a source    where it has more that have shown no credential than connections are left, one of them
                             makes room or the newest is closed at once: a handful of addresses leave room for others;
                             not where one may have all handshakes, as that of a balancer
    handshakes at once       accepting stops until some have ended; the kernel's backlog holds who comes
    handshakes of a source   the accepted socket waits for one of the same source to end
    handshakes in a second   the accepted socket waits, unread, for its turn; sources have turns
    sockets that wait        the newest of the source with most of them is closed at once: no more wait than can have
                             their turn while their peers still wait for them, so that no handshake is for nothing
    descriptors, memory      accepting stops for a moment; the backlog holds who comes

A handshake under pressure may have a quarter of its time only (see `HandshakeQueue`), else `limits.handshake_seconds`,
waiting included.
"""

import asyncio
import errno
import ssl
from collections.abc import Callable, Sequence
from enum import StrEnum
from socket import socket
from typing import Final

from relay.bounds.deadlines import NEVER, SWEEP_INTERVAL_SECONDS
from relay.bounds.spreading import Spreading
from relay.metrics import RelayMetrics
from relay.port.arrivals import Arrival
from relay.port.handshake_pace import HandshakePace
from relay.port.handshake_queue import HandshakeQueue
from relay.port.handshakes import HandshakeFailure, Handshakes
from relay.senders.sender_port import SenderPort
from trunkline.channel.limits import RateBound
from trunkline.runtime.accepting import OUT_OF_RESOURCES
from trunkline.runtime.allocator import give_back
from trunkline.runtime.listening import Source, source_of
from trunkline.runtime.logs import Logger

ACCEPTS_PER_TURN: Final = 16
FEW: Final = 16
"""So many of an address may be new where nothing is left: for these others that are idle make room."""
REST_SECONDS: Final = 0.25
PRESSURE_SHARE: Final = 0.25
"""Of `limits.handshake_seconds`, what a handshake has while others wait."""
HOLD_SECONDS: Final = 3.0
"""So long a line for the pace may be: dialling ends give up after five or ten seconds, in which TLS has to fit too."""
TURN_SECONDS: Final = 0.005
"""Between two looks at the line, in which some become due together."""
LOG_INTERVAL_SECONDS: Final = 60.0


class Pause(StrEnum):
    """Why nothing is accepted; the values are those of a label."""

    HANDSHAKES = "handshakes"
    RESOURCES = "resources"


class ConnectionRefusal(StrEnum):
    """Why an accepted socket was closed at once; the values are those of a label."""

    CONNECTIONS = "connections"
    ADDRESS = "address"
    WAITING = "waiting"
    PACED = "paced"


class Acceptor:
    """Accepts on the listening sockets, and has TLS set up; then connections are the port's."""

    deadline: float

    def __init__(
        self,
        listening: Sequence[socket],
        *,
        port: SenderPort,
        context: ssl.SSLContext,
        max_connections: int,
        metrics: RelayMetrics,
        log: Logger,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        """Take over sockets that listen and do not block.

        Args:
            listening: closed by `close`.
            port: gets the connections once TLS is up.
            context: of the TLS.
            max_connections: of all kinds and states at once; `limits.max_connections` or what the process can have.
            metrics: where it counts.
            log: one line a minute about each bound that is reached.
            give_back: returns free memory to the system.
        """
        limits = port.front.limits
        self._loop = asyncio.get_running_loop()
        self._listening = list(listening)
        self._port = port
        self._handshake_seconds = limits.handshake_seconds
        self._max_connections = max_connections
        self._one_may_have_all = limits.max_handshakes_per_address >= limits.max_handshakes
        self._pace = HandshakePace(limits.handshakes_per_second)
        most_paced = int(self._pace.sustained_per_second * HOLD_SECONDS) + 1
        self._surplus = ConnectionRefusal.PACED if most_paced < max_connections // 2 else ConnectionRefusal.WAITING
        self._queue: HandshakeQueue[Arrival] = HandshakeQueue(
            max_handshakes=limits.max_handshakes,
            max_per_source=limits.max_handshakes_per_address,
            max_waiting=min(max_connections // 2, most_paced),
            pace=self._pace,
        )
        self._resume_at_room = min(ACCEPTS_PER_TURN, max(1, limits.max_handshakes // 8))
        self._paused: Pause | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._turn: asyncio.TimerHandle | None = None
        self._handshakes = Handshakes(
            self._queue,
            port=port,
            context=context,
            metrics=metrics,
            give_back=give_back,
            ended=self._handshake_ended,
        )
        self._overdue: Spreading[Arrival] = Spreading(self._loop, Arrival.refuse)
        self._log = log
        self._log_bounds: dict[str, RateBound] = {}
        self._waiting = metrics.handshakes_waiting.of()
        self._paced = metrics.handshakes_paced.of()
        self._refusals = {reason: metrics.connections_refused.of(reason) for reason in ConnectionRefusal}
        self._pauses = {reason: metrics.accept_pauses.of(reason) for reason in Pause}
        self.deadline = NEVER
        self.port: int = listening[0].getsockname()[1]

    # Its life.

    def start(self) -> None:
        """Begin to accept."""
        self._port.front.deadlines.watch(self)
        self._watch()

    def close(self) -> None:
        """Accept no more: those that wait are let go of, handshakes in progress go on."""
        self._unwatch()
        for timer in (self._rest, self._turn):
            if timer is not None:
                timer.cancel()
        for listening in self._listening:
            listening.close()
        self._listening = []
        self._overdue.finish()
        for arrival in self._queue.drop_waiting():
            arrival.refuse()
        self._waiting.count = 0

    async def stop(self) -> None:
        """End, and what is in progress with it."""
        self.close()
        self._port.front.deadlines.forget(self)
        await self._handshakes.stop()

    def remark(self) -> str | None:
        """What an operator should know: that a bound has been reached; None while none is."""
        if self._paused is Pause.RESOURCES:
            return "out of descriptors or memory: new connections wait in the backlog"
        if self._paused is Pause.HANDSHAKES:
            return "limits.max_handshakes is reached: new connections wait in the backlog"
        if self._connections >= self._max_connections:
            return f"{self._connections} connections, as many as may be: new ones, or those that are idle, are closed"
        if self._queue.paced:
            return f"limits.handshakes_per_second is reached: {self._queue.waiting} connections wait"
        if self._queue.waiting:
            return f"limits.max_handshakes_per_address is reached: {self._queue.waiting} connections wait"
        return None

    # Accepting.

    @property
    def _connections(self) -> int:
        return len(self._queue) + len(self._overdue) + self._port.open

    def _watch(self) -> None:
        for listening in self._listening:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _unwatch(self) -> None:
        for listening in self._listening:
            self._loop.remove_reader(listening.fileno())

    def _accept(self, listening: socket) -> None:
        """A listening socket has connections: take some, then let those begin whose turn it is."""
        if self._paused is not None:
            return
        for _ in range(ACCEPTS_PER_TURN):
            if self._queue.room <= 0:
                self._pause(Pause.HANDSHAKES)
                return
            try:
                accepted, place = listening.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if _is_of_one_connection(error):
                    continue
                self._take_a_rest(error)
                break
            self._take(Arrival(accepted, source_of(place), self._loop.time(), self._handshakes.established))
        self._begin_waiting()

    def _take_a_rest(self, error: OSError) -> None:
        self._pause(Pause.RESOURCES)
        self._rest = self._loop.call_later(REST_SECONDS, self._rested)
        self._warn("relay.accept_failed", reason=error.strerror, hint="raise LimitNOFILE")

    def _take(self, arrival: Arrival) -> None:
        refusal = self._refusal(arrival.source)
        if refusal is not None:
            self._refuse(arrival, refusal)
        elif self._queue.enter(arrival, arrival.accepted_at):
            self._handshakes.begin(arrival)
        else:
            self._wait()

    def _refusal(self, source: Source) -> ConnectionRefusal | None:
        """Say why an address gets no connection; None where there is room, or another one has made it."""
        room = self._max_connections - self._connections
        if self._has_more_than(room if room > 0 else FEW, source):
            return None if self._port.make_room(of_strangers=True) else ConnectionRefusal.ADDRESS
        return None if room > 0 or self._port.make_room() else ConnectionRefusal.CONNECTIONS

    def _has_more_than(self, left: int, source: Source) -> bool:
        """Whether an address has more connections that have shown no credential than are left."""
        strangers = self._queue.of(source) + self._port.strangers_of(source)
        return strangers > left and not self._one_may_have_all

    def _wait(self) -> None:
        self._press()
        if self._queue.paced:
            self._paced.count += 1
        surplus = self._queue.surplus()
        if surplus is not None:
            self._refuse(surplus, self._surplus)
        self._waiting.count = self._queue.waiting

    def _refuse(self, arrival: Arrival, reason: ConnectionRefusal) -> None:
        arrival.refuse()
        self._refusals[reason].count += 1
        self._warn("relay.connections_refused", bound=reason, connections=self._connections)

    # Pauses.

    def _pause(self, reason: Pause) -> None:
        if self._paused is None:
            self._unwatch()
        self._paused = reason
        self._pauses[reason].count += 1
        if reason is Pause.HANDSHAKES:
            self._press()

    def _rested(self) -> None:
        self._rest = None
        self._paused = None
        self._watch()

    def _resume(self, at_room: int) -> None:
        """Accept again, if it was for the handshakes that it stopped, and there is room for that many."""
        if self._paused is Pause.HANDSHAKES and self._queue.room >= at_room:
            self._paused = None
            self._watch()

    # Turns.

    def _begin_waiting(self) -> None:
        """Let those that wait begin; while accepting is paused the room is for the backlog first."""
        now = self._loop.time()
        while self._queue.waiting and (arrival := self._queue.next(now)) is not None:
            self._waiting.count = self._queue.waiting
            if arrival.gone:
                self._queue.forgo(arrival)
                arrival.refuse()
                self._handshakes.count_failed(HandshakeFailure.CLOSED)
            else:
                self._handshakes.begin(arrival)
        if self._queue.paced and self._turn is None:
            self._turn = self._loop.call_at(max(self._pace.ready_at, now + TURN_SECONDS), self._next_turn)

    def _next_turn(self) -> None:
        self._turn = None
        if self._paused is None:
            self._begin_waiting()
        else:
            self._turn = self._loop.call_later(SWEEP_INTERVAL_SECONDS, self._next_turn)

    def _handshake_ended(self) -> None:
        if self._paused is not None:
            self._resume(self._resume_at_room)
        elif self._queue.waiting:
            self._begin_waiting()

    # Deadlines.

    def _press(self) -> None:
        """Somebody waits: look at who takes long."""
        if self.deadline == NEVER:
            self.deadline = self._loop.time() + SWEEP_INTERVAL_SECONDS

    def deadline_reached(self, now: float) -> None:
        """Let go of those that have waited for too long, and of those who keep others waiting."""
        overdue = self._queue.overdue(now - self._handshake_seconds)
        self._handshakes.count_failed(HandshakeFailure.DEADLINE, len(overdue))
        self._overdue.add(overdue)
        self._waiting.count = self._queue.waiting
        full = self._paused is Pause.HANDSHAKES
        slow_before = now - PRESSURE_SHARE * self._handshake_seconds
        self._handshakes.displace(self._queue.slow(slow_before, all_sources=full))
        if self._paused is None:
            self._begin_waiting()
        else:
            self._resume(1)
        self.deadline = now + SWEEP_INTERVAL_SECONDS if full or self._queue.waiting else NEVER

    def _warn(self, event: str, **facts: object) -> None:
        now = self._loop.time()
        bound = self._log_bounds.setdefault(event, RateBound(1, 1 / LOG_INTERVAL_SECONDS, now))
        if bound.spend(now):
            self._log.warning(event, **facts)


def _is_of_one_connection(error: OSError) -> bool:
    """Whether accepting failed for that one connection only: accept(2) hands on what has happened to it."""
    return isinstance(error, ConnectionError) or error.errno not in OUT_OF_RESOURCES | {errno.EBADF, errno.EINVAL}
