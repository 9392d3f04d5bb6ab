"""The writing half of a link: what has collected leaves once per tick, and streams take turns when there is too much.

While the transport is full, or `OUTPUT_BYTES` have been collected, the link is `blocked`: streams have no room, and
those that ask for some are put in a queue. After the flush they are called in the order of the queue, each for at most
`TURN_BYTES`, and what comes of that is written in rounds of one system call each. No stream starves another, and a
small frame waits for at most `OUTPUT_BYTES + TURN_BYTES + TRANSPORT_HIGH_BYTES` and one more flush before it reaches
the socket, and there for `UNSENT_BYTES` and for what the windows of the streams let be under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from trunkline.channel.flushing import JOIN_BYTES, Flusher, write_pieces
from trunkline.channel.link_stream import TURN_BYTES, LinkStream
from trunkline.channel.session import Session

OUTPUT_BYTES: Final = TURN_BYTES
ROUNDS: Final = 4
"""In one flush, after what had collected: as much as the transports read in one turn of the loop, 256 KiB."""
ROUND_BYTES: Final = TURN_BYTES * 3 // 4
"""What a round has to bring, to be written in the same flush."""
TRANSPORT_HIGH_BYTES: Final = 128 * 1024
TRANSPORT_LOW_BYTES: Final = 32 * 1024
MOST_WAITING: Final = 4096
"""Of those that wait, from so many on, those that are lost are looked for; while a peer does not read, nobody else
would do that."""


class LinkOutput:
    """What a link writes. `Link` adds everything else."""

    session: Session[LinkStream]
    now: Callable[[], float]
    """The time of the loop, in seconds."""
    lost: bool

    def __init__(self, flusher: Flusher) -> None:
        self._flusher = flusher
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._waiting: deque[LinkStream] | None = None  # most links never have one, and it is 624 bytes
        self.blocked = False
        """No stream has room at present: the transport is full, or this tick has collected enough."""
        self.queued_bytes = 0
        self.output_bytes = OUTPUT_BYTES
        self.flush_requested = False
        self._late_ends: list[LinkStream] = []
        self._late_requested = False
        self._late_is_fresh = False
        self._most_waiting = MOST_WAITING

    def pause_writing(self) -> None:
        """The transport is full."""
        self._paused = self.blocked = True

    def resume_writing(self) -> None:
        """The transport has room again: write, then give the waiting streams their turns."""
        self._paused = False
        self.request_flush()

    @property
    def unsent_bytes(self) -> int:
        """What a full transport holds, in bytes; 0 while it is not full."""
        if self._transport is None or not self._paused:
            return 0
        return self._transport.get_write_buffer_size()

    def request_flush(self) -> None:
        """Have `flush` called soon; once per tick."""
        if not self.flush_requested:
            self.flush_requested = True
            self._flusher.request(self)

    def flush_if_wanted(self) -> None:
        """Have `flush` called soon, if the session has something to send."""
        if not self.flush_requested and self.session.wants_to_send:
            self.request_flush()

    def wait(self, stream: LinkStream) -> None:
        """Put a stream in the queue of those that want to write."""
        if not stream.waiting:
            stream.waiting = True
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(stream)
            if self._paused and len(self._waiting) >= self._most_waiting:
                self._forget_lost()
            self.request_flush()

    def end_late(self, stream: LinkStream) -> None:
        """Send the stream's FIN with the next flush, or soon: a write of its own would cost as much as a call."""
        if not self._late_ends:
            self._late_is_fresh = True
        self._late_ends.append(stream)
        if self._paused and len(self._late_ends) >= self._most_waiting:
            self._forget_lost()
        if not self._late_requested:
            self._late_requested = True
            self._flusher.request_late(self)

    def flush_late(self) -> None:
        """Write the FINs that nothing has come to go with, unless they have only just begun to wait."""
        self._late_requested = False
        if self._late_ends:
            if self._late_is_fresh:
                self._late_is_fresh = False
                self._late_requested = True
                self._flusher.request_late(self)
            else:
                self.flush()

    def flush(self) -> None:
        """Write what has collected, then give the waiting streams their turns."""
        self.flush_requested = False
        if self.lost:
            return
        if not self._paused and self._transport is not None:
            if self._late_ends:
                self._send_late_ends()
            self._write_out()
            self.blocked = self._paused
            if self._waiting:
                self._give_rounds(self._waiting)
        self._settle()

    def _give_rounds(self, waiting: deque[LinkStream]) -> None:
        """Give turns and write what comes of them, for as long as that is worth a system call and something waits.

        What comes of the last round is written by the next flush, with what has been received until then.
        """
        for _ in range(ROUNDS):
            self._give_turns(waiting)
            if self.queued_bytes < ROUND_BYTES or self.lost:
                return
            self._write_out()
            self.blocked = self._paused
            if not waiting or self._paused:
                return

    def _write_out(self) -> None:
        if self._transport is None:
            return
        pieces = self.session.data_to_send()
        content_bytes, self.queued_bytes = self.queued_bytes, 0
        if not pieces:
            return
        if content_bytes < JOIN_BYTES:
            # Calls, credit, pings: nothing large, so nothing to look for.
            self._transport.write(b"".join(pieces))
        else:
            write_pieces(self._transport, pieces)

    def _forget_lost(self) -> None:
        """Let go of streams that wait and are lost; the next time is once there are twice as many as are left."""
        self._late_ends = [stream for stream in self._late_ends if stream.writable]
        waiting = self._waiting
        if waiting:
            left = [stream for stream in waiting if stream.writable]
            waiting.clear()
            waiting.extend(left)
        self._most_waiting = max(MOST_WAITING, 2 * len(self._late_ends), 2 * len(waiting or ()))

    def _send_late_ends(self) -> None:
        late = self._late_ends
        self._late_ends = []
        for stream in late:
            if stream.writable:
                self.session.end_stream(stream)
                if stream.end_delivered:
                    stream.handler = None

    def _give_turns(self, waiting: deque[LinkStream]) -> None:
        for _ in range(len(waiting)):
            if self.blocked:
                return
            stream = waiting.popleft()
            stream.waiting = False
            stream.turn_bytes = TURN_BYTES
            if stream.writable and stream.send_window:
                self._deliver_room(stream)

    def _deliver_room(self, stream: LinkStream) -> None:
        """Tell the stream's handler that there is room."""
        raise NotImplementedError

    def _settle(self) -> None:
        """Look what else has become possible, now that something was sent or received."""
        raise NotImplementedError
