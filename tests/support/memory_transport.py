"""A pair of connected transports in memory, for tests of everything that runs on a transport.

Bytes arrive in order, late by `delay_seconds`, and cut into pieces as `split` says. A connection never loses single
bytes, as TCP does not; `loss` is the chance for each write that the connection breaks in the middle of it: the receiver
gets a part of the bytes, and both sides get `connection_lost(ConnectionResetError)`. Everything random comes from
`seed`, and time from the loop, so a run on a loop with virtual time repeats exactly.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Protocol, cast

HIGH_WATER_BYTES = 64 * 1024


class Split(Enum):
    """How what was written is cut before it is received."""

    WHOLE = "whole"
    BYTES = "bytes"
    RANDOM = "random"


class _Line:
    """The properties of the connection, the same in both directions."""

    def __init__(self, split: Split, loss: float, seed: int) -> None:
        self._split = split
        self._loss = loss
        self._random = random.Random(seed)

    def breaks_after(self, size: int) -> int | None:
        """How many bytes of a write still pass before the connection breaks; None if it holds."""
        if self._loss and self._random.random() < self._loss:
            return self._random.randrange(size)
        return None

    def cut(self, data: bytes) -> Iterator[bytes]:
        """The pieces in which bytes arrive."""
        position = 0
        while position < len(data):
            end = position + self._next_size(len(data) - position)
            yield data[position:end]
            position = end

    def _next_size(self, left: int) -> int:
        if self._split is Split.WHOLE:
            return left
        if self._split is Split.BYTES:
            return 1
        return self._random.randint(1, min(left, 64 if self._random.randrange(2) else left))


_Item = bytes | Exception | None
"""What travels: bytes, the end of a broken connection, or None for FIN."""


class _Direction:
    """What is on its way from one end, the source, to the other, the sink."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_seconds: float, capacity_bytes: int) -> None:
        self._loop = loop
        self._delay_seconds = delay_seconds
        self._capacity_bytes = capacity_bytes
        self._items: deque[tuple[float, _Item]] = deque()
        self._size_bytes = 0
        self.sink_gone = False
        self.end_taken = False
        self.on_arrival: Callable[[], None]
        self.on_taken: Callable[[], None]

    @property
    def kept_bytes(self) -> int:
        """What the connection itself does not hold, and the source has to keep."""
        return max(0, self._size_bytes - self._capacity_bytes)

    def put(self, item: _Item) -> None:
        """Send something."""
        if self.sink_gone:
            self._note_taken(item)
            return
        self._size_bytes += len(item) if isinstance(item, bytes) else 0
        self._items.append((self._loop.time() + self._delay_seconds, item))
        self.on_arrival()

    def break_off(self, error: Exception) -> None:
        """Drop what is on its way, and break the connection."""
        self._items.clear()
        self._size_bytes = 0
        self.put(error)

    def due_at(self) -> float | None:
        """When the next thing arrives; None if nothing is on its way."""
        return self._items[0][0] if self._items else None

    def next(self) -> _Item:
        """What arrives next."""
        return self._items[0][1]

    def take(self) -> None:
        """Remove what arrives next, and tell the source."""
        item = self._items.popleft()[1]
        self._size_bytes -= len(item) if isinstance(item, bytes) else 0
        self._note_taken(item)

    def take_part(self, size: int) -> None:
        """Remove the first bytes of what arrives next."""
        due, item = self._items.popleft()
        if isinstance(item, bytes):
            self._items.appendleft((due, item[size:]))
        self._size_bytes -= size
        self.on_taken()

    def lose_sink(self) -> None:
        """The sink is gone: whatever is sent vanishes."""
        self.sink_gone = True
        while self._items:
            self.take()

    def _note_taken(self, item: _Item) -> None:
        if item is None:
            self.end_taken = True
        self.on_taken()


class ByteProtocol(Protocol):
    """What a transport calls: the methods of asyncio.Protocol, whatever the class derives from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        ...

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        ...

    def eof_received(self) -> bool | None:
        """No more will come; close unless this returns True."""
        ...

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        ...

    def pause_writing(self) -> None:
        """What was written is not taken."""
        ...

    def resume_writing(self) -> None:
        """It is again."""
        ...


class MemoryTransport(asyncio.Transport):
    """One end. `start` gives it its protocol; bytes that come before that wait."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, line: _Line, incoming: _Direction, outgoing: _Direction
    ) -> None:
        super().__init__({"peername": ("memory", 0)})
        self._loop = loop
        self._line = line
        self._incoming = incoming
        self._outgoing = outgoing
        incoming.on_arrival = self._schedule
        outgoing.on_taken = self._written_taken
        self._protocol: asyncio.Protocol | None = None
        self._pumping: asyncio.Handle | None = None
        self._reading = True
        self._high_bytes = HIGH_WATER_BYTES
        self._low_bytes = HIGH_WATER_BYTES // 4
        self._protocol_paused = False
        self._eof_written = False
        self._closing = False
        self._finished = False

    def start(self, protocol: ByteProtocol) -> None:
        """Give the transport its protocol, and tell the protocol that it is connected."""
        self.set_protocol(cast(asyncio.Protocol, protocol))
        protocol.connection_made(self)

    # What asyncio.Transport promises

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        if self._protocol is None:
            raise RuntimeError("the transport was not started")
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol."""
        if isinstance(protocol, asyncio.BufferedProtocol):
            raise TypeError("a memory transport has no buffers for a BufferedProtocol")
        self._protocol = cast(asyncio.Protocol, protocol)
        self._schedule()

    def is_closing(self) -> bool:
        """Whether the transport is closing or closed."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether received bytes are passed on."""
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        """Take nothing more; the peer's buffer fills up."""
        self._reading = False

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._reading = True
        self._schedule()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Send bytes; they may be changed afterwards.

        Raises:
            RuntimeError: after `write_eof`.
        """
        if self._closing or not data:
            return
        if self._eof_written:
            raise RuntimeError("cannot write after write_eof")
        if self._outgoing.sink_gone:
            self._finish(ConnectionResetError("the other end is gone"))
            return
        data = bytes(data)
        passed = self._line.breaks_after(len(data))
        if passed is not None:
            self._break_after(data[:passed])
            return
        self._outgoing.put(data)
        self._pause_protocol_if_full()

    def can_write_eof(self) -> bool:
        """The transport can be half-closed."""
        return True

    def write_eof(self) -> None:
        """Send no more; receiving goes on."""
        if not self._eof_written and not self._closing:
            self._eof_written = True
            self._outgoing.put(None)

    def get_write_buffer_size(self) -> int:
        """Bytes written that the peer has not taken."""
        return self._outgoing.kept_bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks (low, high), in bytes."""
        return self._low_bytes, self._high_bytes

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks, in bytes: the protocol is paused above `high`, and resumed at `low`."""
        self._high_bytes = HIGH_WATER_BYTES if high is None else high
        self._low_bytes = self._high_bytes // 4 if low is None else low
        self._pause_protocol_if_full()

    def close(self) -> None:
        """Close as soon as the peer has taken what was written; receive nothing more."""
        if self._closing:
            return
        self._closing = True
        if not self._eof_written:
            self._eof_written = True
            self._outgoing.put(None)
        if self._outgoing.end_taken:
            self._finish(None)

    def abort(self) -> None:
        """Break the connection at once; the peer gets a ConnectionResetError."""
        if not self._finished:
            self._outgoing.break_off(ConnectionResetError("the other end broke the connection"))
            self._finish(None)

    # Sending

    def _break_after(self, data: bytes) -> None:
        if data:
            self._outgoing.put(data)
        self._outgoing.put(ConnectionResetError("the connection was lost"))
        self._finish(ConnectionResetError("the connection was lost"))

    def _pause_protocol_if_full(self) -> None:
        full = self._outgoing.kept_bytes > self._high_bytes
        if full and not self._protocol_paused and self._protocol is not None:
            self._protocol_paused = True
            self._protocol.pause_writing()

    def _written_taken(self) -> None:
        """The peer has taken some of what was written here."""
        if self._finished:
            return
        if self._closing:
            if self._outgoing.end_taken:
                self._finish(None)
        elif self._protocol_paused and self._outgoing.kept_bytes <= self._low_bytes and self._protocol is not None:
            self._protocol_paused = False
            self._protocol.resume_writing()

    # Receiving

    def _schedule(self) -> None:
        due = self._incoming.due_at()
        if self._pumping is None and due is not None and self._protocol is not None and not self._finished:
            late = due > self._loop.time()
            self._pumping = self._loop.call_at(due, self._pump) if late else self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pumping = None
        now = self._loop.time()
        incoming = self._incoming
        while not self._finished and (due := incoming.due_at()) is not None and due <= now:
            item = incoming.next()
            if isinstance(item, Exception):
                self._finish(item)
            elif self._closing:
                incoming.take()
            elif not self._reading:
                return
            elif item is None:
                incoming.take()
                self._receive_end()
            else:
                self._receive(item)
        self._schedule()

    def _receive(self, data: bytes) -> None:
        """Pass bytes on in pieces; what is left when the protocol pauses stays where it is."""
        position = 0
        for piece in self._line.cut(data):
            if not self._reading or self._closing or self._protocol is None:
                break
            position += len(piece)
            self._protocol.data_received(piece)
        if self._finished:
            return
        if position < len(data):
            self._incoming.take_part(position)
        else:
            self._incoming.take()

    def _receive_end(self) -> None:
        if self._protocol is not None and not self._closing and not self._protocol.eof_received():
            self.close()

    def _finish(self, error: Exception | None) -> None:
        if self._finished:
            return
        self._finished = self._closing = True
        if self._pumping is not None:
            self._pumping.cancel()
            self._pumping = None
        self._incoming.lose_sink()
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)


def memory_pair(
    loop: asyncio.AbstractEventLoop,
    *,
    split: Split = Split.WHOLE,
    delay_seconds: float = 0.0,
    capacity_bytes: int = 0,
    loss: float = 0.0,
    seed: int = 0,
) -> tuple[MemoryTransport, MemoryTransport]:
    """Make two connected ends; `start` each with its protocol.

    Args:
        loop: the loop of both.
        split: how writes are cut.
        delay_seconds: how long each byte is on its way.
        capacity_bytes: how much the connection holds in each direction before the writer has to keep anything; a
            long fat pipe needs some.
        loss: the chance, from 0 to 1, that a write breaks the connection.
        seed: what everything random follows from.
    """
    line = _Line(split, loss, seed)
    there, back = (_Direction(loop, delay_seconds, capacity_bytes) for _ in range(2))
    return MemoryTransport(loop, line, back, there), MemoryTransport(loop, line, there, back)
