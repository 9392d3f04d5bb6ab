"""The flow on a sender's transport, in both directions, and its end.

Theory of operation. *In*: calls of one connection never overlap, so what comes while one is in progress is `held`;
above `MAX_HELD_BYTES`, or while the node has no room, reading stops. What a transport may still deliver then is
bounded. *Out*: while the sender does not take what is written the flow is `congested`, and one that takes nothing is
cut by its `WriteStall`; large output leaves as `output` says. Small pieces that come while it is congested are
joined, since a transport keeps each as it is, at some fifty bytes more. *The end* begins in any state, for good:

    OPEN ──▶ LINGERING ──▶ CLOSING
      └───────────────────────▲

LINGERING gives the sender time to read an answer: a transport that closes on bytes that nobody has read destroys what
is on its way. What comes is thrown away, as it is while CLOSING, of which `closing` says how long it may take.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.calls.content_rest import JOINED_BYTES
from relay.senders.closing import SenderClosing
from relay.senders.output import SenderOutput
from relay.senders.write_stall import WriteStall
from trunkline.channel.bodies import Chunk
from trunkline.channel.flushing import JOIN_BYTES

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor

MAX_HELD_BYTES: Final = 64 * 1024
MAX_OVERRUN_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
SMALL_BYTES: Final = 1024
"""Of the pieces of output, those are small that cost far more than their bytes."""


class Flow(Enum):
    """How far the end is."""

    OPEN = auto()
    LINGERING = auto()
    CLOSING = auto()


_OPEN: Final = Flow.OPEN
_LINGERING: Final = Flow.LINGERING
_CLOSING: Final = Flow.CLOSING


class TransportFlow:
    """The flow of one connection.

    The steps of the end return the time at which the next one is due, `NEVER` where it is not for a deadline to take.

    Attributes:
        congested: whether the sender does not take what is written.
        held: what came too early.
    """

    __slots__ = (
        "_closing", "_front", "_joined", "_output", "_overrun_bytes", "_reading", "_stall", "_state", "_transport",
        "congested", "held",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, front: FrontDoor) -> None:
        self._transport = transport
        self._front = front
        self._state = _OPEN
        self._reading = True
        self._overrun_bytes = 0
        self._stall: WriteStall | None = None
        self._output: SenderOutput | None = None  # most connections never have large output
        self._joined = b""
        self._closing: SenderClosing | None = None
        self.congested = False
        self.held = b""

    # In.

    @property
    def reading(self) -> bool:
        """Whether bytes of the sender are asked for."""
        return self._reading

    def hold(self, data: bytes) -> None:
        """Keeps what came while a call is in progress."""
        self.held += data
        if len(self.held) > MAX_HELD_BYTES:
            self.stop_reading(len(data))

    def take_held(self) -> bytes:
        """Returns what came too early; its time has come."""
        held, self.held = self.held, b""
        return held

    def stop_reading(self, size_bytes: int) -> None:
        """Pauses once the transport has delivered what it holds: paused in between, aiofastnet loses a close_notify.

        Told of the bytes that it still delivers, at last it pauses in between all the same.
        """
        if self._reading:
            self._reading = False
            self._overrun_bytes = 0
            self._front.call_soon(self._pause)
            return
        self._overrun_bytes += size_bytes
        if self._overrun_bytes > MAX_OVERRUN_BYTES:
            self._pause()

    def read_on(self) -> None:
        """Reads again, unless too much is held."""
        if not self._reading and len(self.held) <= MAX_HELD_BYTES:
            self._reading = True
            self._transport.resume_reading()

    def _pause(self) -> None:
        if not self._reading and self._state is not _CLOSING:
            self._transport.pause_reading()

    # Out.

    def write(self, data: Chunk) -> None:
        """Writes bytes: large ones perhaps at the end of the loop's turn, small ones perhaps once there is room."""
        if self.congested and len(data) < SMALL_BYTES:
            self._joined = b"".join((self._joined, data))
            if len(self._joined) >= JOINED_BYTES:
                self._write_joined()
            return
        if self._joined:
            self._write_joined()
        self._write(data)

    def _write_joined(self) -> None:
        joined, self._joined = self._joined, b""
        self._write(joined)

    def _write(self, data: Chunk) -> None:
        output = self._output
        if output is None:
            if len(data) < JOIN_BYTES:
                self._transport.write(data)
                return
            output = self._output = SenderOutput(self._transport, self._front.call_soon)
        output.write(data)

    def write_pieces(self, pieces: list[Chunk]) -> None:
        """Writes bytes that lie in several pieces."""
        self.write_out()
        self._transport.writelines(pieces)

    def write_out(self) -> None:
        """Writes what waits for the end of the loop's turn, or for room, so that something else may follow it."""
        if self._joined:
            self._write_joined()
        if self._output is not None:
            self._output.flush()

    def pause_writing(self, stall_seconds: float) -> None:
        """The sender does not take what was written; it is cut if it takes nothing for so long."""
        self.congested = True
        self._stall = WriteStall(self._transport, self._front, stall_seconds)

    def call_over(self) -> None:
        """No call is in progress any more: what the sender has not taken counts as held from here on."""
        if self._stall is not None:
            self._stall.hold()

    def resume_writing(self) -> None:
        """It does again, or is gone."""
        self.congested = False
        self._end_stall()
        if self._joined:
            self._write_joined()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.end()
            self._stall = None

    # The end.

    def linger(self) -> float:
        """Begins to throw away what comes."""
        self._state = _LINGERING
        self.held = b""
        self.read_on()
        return self._front.deadlines.now + LINGER_SECONDS

    def close(self) -> None:
        """Closes, once the sender has taken what was written."""
        if self._closing is not None:
            return
        self.write_out()
        self._state = _CLOSING
        self.held = b""
        self.read_on()  # a transport that does not read would wait in vain for the sender's own goodbye
        stall = self._stall
        stall_seconds = self._front.limits.write_stall_seconds if stall is None else stall.seconds
        self._end_stall()
        self._closing = SenderClosing(self._transport, self._front, stall_seconds)
        self._closing.begin()

    def abort(self) -> None:
        """Ends at once."""
        self._state = _CLOSING
        self._transport.abort()

    def part(self) -> bytes:
        """The transport is lost, or somebody else's from here on; returns what was held."""
        self._state = _CLOSING
        if self._closing is not None:
            self._closing.end()
        self._joined = b""
        if self._output is not None:
            self._output.drop()
        self.resume_writing()
        return self.take_held()
