"""The holding worker's side of the hop: the stream from the other worker and the node's, spliced; see `hop`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.bounds.deadlines import NEVER
from relay.calls.credited_stream import CreditedStream
from relay.workers.hop import FULL, GONE, HOP_HEAD, OPENED, SILENT
from trunkline.channel.bodies import Chunk
from trunkline.channel.errors import ChannelError, ErrorCode, StreamReset
from trunkline.channel.link import Link, LinkStream

if TYPE_CHECKING:
    from relay.bounds.deadlines import Deadlines
    from relay.bounds.untaken import Untaken
    from relay.links.listeners import Listener


class HopIn(CreditedStream):
    """The holding worker's side towards the worker that the call came in at."""

    __slots__ = ("_answered", "_broken", "_door", "_out", "_prefix")

    def __init__(self, door: HopDoor, stream: LinkStream) -> None:
        CreditedStream.__init__(self)
        self._stream = stream
        self._door = door
        self._prefix = b""
        self._out: HopOut | None = None
        self._answered = False
        self._broken = False

    # What the stream between the workers tells.

    def data_received(self, data: bytes | memoryview) -> None:
        """The head of the hop, then what the node gets."""
        out = self._out
        if out is None:
            data = self._read_head(data)
            out = self._out
            if out is None or not data:
                return
        size = len(data)
        out.take(data)
        self._credit(size, owed=out.congested)

    def end_received(self) -> None:
        """The call sends no more."""
        if self._out is not None:
            self._out.finish()
            self.part_if_over()
        elif not self._broken:
            self._reset()

    def stream_lost(self, error: ChannelError) -> None:
        """The call was given up, or the other worker is gone: the node's stream is reset."""
        self._stream = None
        self._waiting = None
        self._door.untaken.forget(self)
        if self._out is not None:
            self._out.give_up()

    def _read_head(self, data: bytes | memoryview) -> bytes | memoryview:
        """Collect the head, and open a stream there; return what came behind it."""
        wanted = HOP_HEAD.size - len(self._prefix)
        if not wanted:
            return b""  # the call was refused, and does not know it yet
        self._prefix += data[:wanted]
        if len(self._prefix) == HOP_HEAD.size:
            number, sender = HOP_HEAD.unpack(self._prefix)
            listener = self._door.listener(number)
            if listener is None:
                self.refuse(GONE)
            else:
                self._out = out = HopOut(self, self._door, listener, sender)
                out.open()
        return data[wanted:]

    def _all_sent(self) -> None:
        if self._out is not None:
            self._out.taken_over()
        else:
            self._door.untaken.forget(self)
            if self._broken:
                self._reset()

    # What the node's side asks for.

    def pass_back(self, data: Chunk) -> None:
        """Send what the node sent."""
        if self._answered:
            self._send(data)
        else:
            self._answered = True
            self._send(b"".join((OPENED, data)))

    def finish(self, data: Chunk) -> None:
        """Send the last that the node sent, if anything, and the end with it."""
        if not self._answered:
            self._answered = True
            data = b"".join((OPENED, data))
        stream = self._stream
        if self._waiting is None and stream is not None and 0 < len(data) <= stream.send_room_bytes:
            self._ending = self._end_sent = True
            stream.write(data, end=True)
        else:
            if data:
                self._send(data)
            self._end()
        self.part_if_over()

    def refuse(self, status: bytes) -> None:
        """Say why there is no call, or cut it where it is too late to say."""
        self._out = None
        if self._answered:
            self._reset()
        else:
            self._send(status)
            self._end()

    def part_if_over(self) -> None:
        """Let the two halves forget each other once nothing can happen any more, so that neither waits to be found.

        What the other worker has not taken yet is counted here then, since the node's stream is over.
        """
        stream, out = self._stream, self._out
        if out is not None and out.ended and (stream is None or not stream.readable) and not out.congested:
            self._out = None
            out.part()
            if self._waiting is not None:
                self._door.untaken.note(self, sum(map(len, self._waiting)))

    def cut(self, error: ChannelError) -> None:
        """The node's stream is lost, or memory is needed."""
        self._out = None
        self._door.untaken.forget(self)
        self._reset()

    def cut_behind_the_end(self, error: ChannelError) -> None:
        """The node's stream is lost: what waits of one that had ended is passed on first, with its end."""
        if self._waiting is None or not self._ending or error.code is ErrorCode.BUDGET_EXCEEDED:
            self.cut(error)
        else:
            self._out = None
            self._broken = True
            self._door.untaken.note(self, sum(map(len, self._waiting)))

    def node_ready(self) -> None:
        """The node has taken what waited: the credit that was held back."""
        self._pay_credit()


class HopOut(CreditedStream):
    """The holding worker's side towards the node."""

    __slots__ = ("_door", "_in", "_last", "_listener", "_sender", "deadline")

    def __init__(self, hop: HopIn, door: HopDoor, listener: Listener, sender: int) -> None:
        CreditedStream.__init__(self)
        self._sender = sender
        self._in: HopIn | None = hop
        self._door = door
        self._listener = listener
        self._last = b""
        self.deadline = NEVER

    def open(self) -> None:
        """Open the node's stream; the node has to show in time that it took it."""
        self._watch(self._door.listener_seconds)
        self._try()

    def _try(self) -> None:
        if self._in is None:
            return
        try:
            self._stream = self._listener.link.open(self, self._sender)
        except ChannelError as error:
            if error.code is ErrorCode.TOO_MANY_UNACKED:
                self._listener.link.call_when_openable(self._try)
            else:
                self._refuse(FULL if error.code is ErrorCode.TOO_MANY_STREAMS else GONE)
            return
        if self._waiting is not None:
            self._send_waiting()
        elif self._ending:
            self._end_sending()

    # What the node's stream tells.

    def data_received(self, data: bytes | memoryview) -> None:
        """Pass back what the node sends."""
        hop = self._in
        if hop is None:
            return
        if self.deadline != NEVER:
            self._taken()
        stream = self._stream
        if stream is not None and not stream.readable and not stream.lost:
            # The end has come with it, or comes right behind it: it goes on together with that.
            self._last += data
            return
        hop.pass_back(data)
        self._credit(len(data), owed=hop.congested)

    def end_received(self) -> None:
        """The node sends no more."""
        self._taken()
        last, self._last = self._last, b""
        if self._in is not None:
            self._in.finish(last)
        self._look_whether_over()

    def stream_lost(self, error: ChannelError) -> None:
        """The node reset the stream, or its link is gone."""
        stream, self._stream = self._stream, None
        self._waiting = None
        if stream is not None and stream.refused:
            self._refuse(GONE)
        elif self._in is not None:
            hop, self._in = self._in, None
            self._taken()
            hop.cut_behind_the_end(error)

    def deadline_reached(self, now: float) -> None:
        """The node has had its time to take the stream, or what was sent last."""
        stream = self._stream
        if stream is None or not stream.acknowledged:
            self._refuse(SILENT)
        elif self._ending and self._waiting is not None and not stream.readable:
            hop, self._in = self._in, None
            self._reset()
            if hop is not None:
                hop.cut_behind_the_end(StreamReset("the node takes no more"))
        self._taken()

    # What the other side asks for.

    def take(self, data: Chunk) -> None:
        """Send what the call sends."""
        self._send(data)

    def finish(self) -> None:
        """The call sends no more: half-close, behind what waits."""
        self._end()
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        """A node that sends no more has its time for what it has not taken: nobody else waits for that any more."""
        stream = self._stream
        if self._ending and self._waiting is not None and stream is not None and not stream.readable:
            self._watch(self._door.stall_seconds)

    @property
    def ended(self) -> bool:
        """Whether the node sends no more."""
        return self._stream is None or not self._stream.readable

    def part(self) -> None:
        """Nothing is left to be told to the other side."""
        self._in = None

    def give_up(self) -> None:
        """The call is over: so is the node's stream."""
        self._in = None
        self._taken()
        self._reset()

    def taken_over(self) -> None:
        """The other worker has taken what waited: the node may send as much again."""
        self._pay_credit()

    def _all_sent(self) -> None:
        if self._in is not None:
            self._in.node_ready()

    def _end_sending(self) -> None:
        """Send FIN; one that nobody waits for, since the node has ended its side, goes with other output."""
        stream = self._stream
        if stream is not None and not self._end_sent and stream.writable and not stream.readable:
            self._end_sent = True
            stream.end_late()
        else:
            super()._end_sending()

    def _reset(self) -> None:
        if self._stream is None:
            self._listener.link.call_no_more(self._try)
        super()._reset()

    def _refuse(self, status: bytes) -> None:
        hop, self._in = self._in, None
        self._taken()
        self._reset()
        if hop is not None:
            hop.refuse(status)

    def _taken(self) -> None:
        """Nothing is waited for any more."""
        self.deadline = NEVER
        self._door.deadlines.forget(self)

    def _watch(self, seconds: float) -> None:
        self.deadline = self._door.deadlines.now + seconds
        self._door.deadlines.watch(self)


class HopDoor:
    """The owner of a link between workers: serves the calls that come over it."""

    def __init__(
        self,
        *,
        find: Callable[[int], Listener | None],
        hopped: Callable[[], None],
        lost: Callable[[Link], None],
        deadlines: Deadlines,
        untaken: Untaken,
        listener_seconds: float,
        stall_seconds: float,
    ) -> None:
        """Take what finds a listener by its number, and who hears of each call and of the link's end.

        `listener_seconds` is what a node has to take a stream, and `stall_seconds` for the last that it is sent.
        """
        self.listener = find
        self.deadlines = deadlines
        self.untaken = untaken
        self.listener_seconds = listener_seconds
        self.stall_seconds = stall_seconds
        self._hopped = hopped
        self._lost = lost

    def stream_offered(self, stream: LinkStream) -> HopIn:
        """Serve a call."""
        self._hopped()
        return HopIn(self, stream)

    def go_away_received(self, link: Link, code: int) -> None:
        """The other worker ends; calls that are open go on."""

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The other worker is gone."""
        self._lost(link)
