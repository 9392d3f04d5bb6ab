"""The first words of those who set up TLS: each is awaited as a whole, and few are answered in a turn of the loop.

Theory of operation. To answer a ClientHello takes half a millisecond, and those of a crowd come together. So nothing is
spent on a connection until the first record of its client is there, which the kernel holds and tells of when it is
whole (SO_RCVLOWAT): who is silent, or says half of it, costs a socket. Of those that are there one has its turn in each
turn of the loop, between which everybody else has theirs, and one more for each `LINE` that wait: turns may be long,
and nobody is to run out of time in a line that grows. What is no TLS, or ends before, has its turn as well: it is for
TLS to say what is wrong with it.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

from relay.port.arrivals import Arrival

_HANDSHAKE_RECORD: Final = b"\x16"
_HEADER_BYTES: Final = 5
_MOST_BYTES: Final = _HEADER_BYTES + 16 * 1024
"""Of a record (RFC 8446 section 5.1)."""
LINE: Final = 64


class Hellos:
    """Those whose first record is awaited, and those whose turn has not come yet."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        answer: Callable[[Arrival], None],
        late: Callable[[Arrival], None],
    ) -> None:
        """Begin without any; `answer` is called with each in its turn, `late` with one that is not there in time."""
        self._loop = loop
        self._answer = answer
        self._late = late
        self._awaited: dict[Arrival, tuple[int, asyncio.TimerHandle]] = {}
        self._there: deque[Arrival] = deque()

    def expect(self, arrival: Arrival, until: float) -> None:
        """Have it answered once its first record is there; until then, in seconds of the loop's clock, it may take."""
        wanted = _wanted(arrival.socket, 1)
        if not wanted:
            self._take_turn(arrival)
            return
        self._awaited[arrival] = wanted, self._loop.call_at(until, self._out_of_time, arrival)
        self._loop.add_reader(arrival.socket.fileno(), self._readable, arrival)

    def forget(self, arrival: Arrival) -> bool:
        """Await it no more; returns whether it was."""
        awaited = self._awaited.pop(arrival, None)
        if awaited is None:
            return False
        self._loop.remove_reader(arrival.socket.fileno())
        awaited[1].cancel()
        return True

    def answer_all(self) -> None:
        """Give everybody their turn now who is there."""
        while self._there:
            self._answer(self._there.popleft())

    def _readable(self, arrival: Arrival) -> None:
        wanted, timer = self._awaited[arrival]
        more = _wanted(arrival.socket, wanted)
        if more:
            self._awaited[arrival] = more, timer
            return
        self.forget(arrival)
        self._take_turn(arrival)

    def _out_of_time(self, arrival: Arrival) -> None:
        self.forget(arrival)
        self._late(arrival)

    def _take_turn(self, arrival: Arrival) -> None:
        self._there.append(arrival)
        if len(self._there) == 1:
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        for _ in range(min(len(self._there), 1 + len(self._there) // LINE)):
            self._answer(self._there.popleft())
        if self._there:
            self._loop.call_soon(self._next_turn)


def _wanted(connection: socket.socket, at_least: int) -> int:
    """How many bytes have to be there for the first record to be whole, at which the kernel tells; 0 if it is.

    The kernel has been asked to tell at `at_least`: if there are fewer, there will be no more.
    """
    try:
        record = connection.recv(_MOST_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return at_least
    except OSError:
        return 0
    wanted = _length(record)
    if len(record) < at_least or len(record) >= wanted:
        wanted = 0
    if wanted or at_least > 1:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(1, wanted))
    return wanted


def _length(record: bytes) -> int:
    """How long the record is that begins so, or how much tells; 0 if it is none of a handshake."""
    if record[:1] != _HANDSHAKE_RECORD:
        return 0
    if len(record) < _HEADER_BYTES:
        return _HEADER_BYTES
    length = _HEADER_BYTES + int.from_bytes(record[3:5], "big")
    return length if length <= _MOST_BYTES else 0
