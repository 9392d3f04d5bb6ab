"""The half of a session that sends: what the owner asks for becomes frames to send, in the order of the asking."""

from collections.abc import Callable
from enum import Enum
from typing import Generic, TypeVar

from trunkline.channel.errors import ChannelError, ConnectionLost, ErrorCode, LimitExceeded, LocalProtocolError
from trunkline.channel.frames import (
    ACK,
    DATA,
    FIN,
    GO_AWAY,
    HEADER_BYTES,
    INITIAL_WINDOW_BYTES,
    MAX_STREAM_ID,
    PING,
    RST,
    SYN,
    UNBOUNDED,
    WINDOW_UPDATE,
    FrameDecoder,
    GoAwayCode,
    encode_header,
)
from trunkline.channel.limits import CreditBudget, Limits, RateBound
from trunkline.channel.pings import QUIET_MEASURE_SECONDS, Pings
from trunkline.channel.streams import Stream
from trunkline.channel.windows import WindowGrowth

S = TypeVar("S", bound=Stream)


class Role(Enum):
    """Which side of the session this is: the client opens odd stream ids, the server even ones."""

    CLIENT = 1
    SERVER = 2


class SendingSession(Generic[S]):
    """The state of a session, and sending; `CreditingSession` adds credit, and `Session` receiving and time."""

    __slots__ = (
        "_acks_due_at",
        "_budget",
        "_compact",
        "_control_bytes",
        "_decoder",
        "_drain_bytes",
        "_growth",
        "_idle_frames",
        "_limits",
        "_most_of_senders",
        "_most_unacknowledged",
        "_next_id",
        "_open_of",
        "_outgoing",
        "_pings",
        "_pings_received",
        "_receiving",
        "_receiving_ends",
        "_resets_received",
        "_role",
        "_send_window_bytes",
        "_stream_type",
        "_unacknowledged",
        "_unannounced",
        "_unsent_acks",
        "deadline_moved",
        "failure",
        "go_away_received",
        "go_away_sent",
        "streams",
    )

    def __init__(
        self,
        role: Role,
        *,
        limits: Limits,
        now: float,
        stream_type: Callable[[int, int, int, int], S] | None = None,
        send_window_bytes: int = INITIAL_WINDOW_BYTES,
        compact: bool = False,
        budget: CreditBudget | None = None,
        keepalive_seconds: float | None = None,
        turn_frames: int = UNBOUNDED,
    ) -> None:
        """Begin a session on a connection that has carried no frame yet.

        Args:
            role: the client opens odd ids, the server even ones.
            limits: the bounds; `limits.initial_window_bytes` is what the peer takes for our first window.
            now: the time, in seconds.
            stream_type: makes a stream from (id, send window, receive window, first flags); `Stream` will do. None
                where `_new_stream` is another.
            send_window_bytes: the peer's first window.
            compact: the peer is one of ours: SYN and FIN may ride on DATA.
            budget: the credit that the process shares; None for no common bound.
            keepalive_seconds: ping after so long a silence; None for never.
            turn_frames: so many frames `receive_data` takes in at once, at most; a SYN counts as `OPENING_WEIGHT`.
        """
        self._role = role
        self._limits = limits
        self._stream_type = stream_type
        self._send_window_bytes = send_window_bytes
        self._compact = compact
        self._budget = budget
        self._next_id = role.value
        self._decoder = FrameDecoder(turn_frames)
        self._growth = WindowGrowth(limits, budget)
        self._pings = Pings(limits, keepalive_seconds, now)
        self._resets_received = RateBound(limits.reset_burst, limits.resets_per_second, now)
        self._pings_received = RateBound(limits.ping_burst, limits.pings_per_second, now)
        self._idle_frames = RateBound(limits.idle_frame_burst, limits.idle_frames_per_second, now)
        self._outgoing: list[bytes | memoryview] = []
        self._control_bytes = 0
        self._unannounced = 0
        self._unsent_acks: dict[int, S] = {}
        self._acks_due_at: float | None = None
        self._unacknowledged = 0
        self._receiving: S | None = None
        self._receiving_ends = False
        self._drain_bytes = INITIAL_WINDOW_BYTES
        self._open_of: dict[int, int] | None = None
        self._most_of_senders: int = limits.max_streams - limits.reserved_streams
        reserved_unacked = limits.max_unacked_streams * limits.reserved_streams // limits.max_streams
        self._most_unacknowledged: int = limits.max_unacked_streams - reserved_unacked
        self.streams: dict[int, S] = {}
        """The streams that are open, by id."""
        self.failure: ChannelError | None = None
        """Why the session is over; None while it lives."""
        self.go_away_sent = False
        self.go_away_received = False
        self.deadline_moved = False
        """Set when `next_deadline` may have come nearer; the owner clears it."""
        if budget is not None:
            budget.attach(self)

    @property
    def can_open(self) -> bool:
        """Whether `open_stream` would succeed now, for a sender that has few streams open."""
        return self._refusal_to_open(self._most_unacknowledged) is None

    @property
    def stream_ids_left(self) -> int:
        """How many streams this side may open until its ids are used up, which a session cannot outlive."""
        return max(0, MAX_STREAM_ID + 2 - self._next_id) // 2

    @property
    def rtt_seconds(self) -> float | None:
        """The round trip of a way without a queue; None before the first ping has come back."""
        return self._pings.rtt_seconds

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` has something."""
        return bool(self._outgoing) or self._unannounced > 0 or len(self._unsent_acks) > self._limits.max_unsent_acks

    def open_stream(self, sender: int = 0) -> S:
        """Open a stream; the peer learns of it with the first frame.

        Args:
            sender: for whom, by a number of the owner's choice; 0 for the owner itself, or who comes before all others.
                A sender has no part in what is reserved (`Limits.reserved_streams`), and of the rest opens no stream
                where it has more than are left: alone it has half of them, and no sender keeps all others out.

        Raises:
            LimitExceeded: too many streams, too many that the peer has not acknowledged (wait and try again), or
                either side has said GoAway (code DRAINING).
            ConnectionLost: the session is over.
        """
        if sender:
            refusal = self._refusal_to_open(self._most_unacknowledged) or self._enter(sender)
        else:
            refusal = self._refusal_to_open(self._limits.max_unacked_streams)
        if refusal is not None:
            raise refusal
        stream_id = self._next_id
        self._next_id = stream_id + 2
        stream = self._new_stream(stream_id, SYN)
        stream.sender = sender
        stream.acknowledged = False
        self._unacknowledged += 1
        self._unannounced += 1
        self.streams[stream_id] = stream
        return stream

    def send_data(self, stream: S, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue one DATA frame; with `end` the last one.

        Args:
            stream: an open stream of this session.
            data: at most `stream.send_window` bytes, not copied, so they must not change until they are sent.
            end: this side sends no more.

        Raises:
            LocalProtocolError: more than the window, or the stream was already ended here.
        """
        size = len(data)
        if not stream.writable or size > stream.send_window:
            self._refuse_sending(stream, size)
            return
        if not size:
            if end:
                self._end_local(stream, by_frame=True)
            return
        word = self._take_first_flags(stream) if stream.first_flags else DATA
        if end and self._compact:
            word |= FIN
        stream.send_window -= size
        outgoing = self._outgoing
        outgoing.append(encode_header(word, stream.id, size))
        outgoing.append(data)
        if end:
            self._end_local(stream, by_frame=not self._compact)

    def end_stream(self, stream: S) -> None:
        """Send FIN: this side sends no more. Receiving goes on.

        Raises:
            LocalProtocolError: it was already ended here.
        """
        if stream.writable:
            self._end_local(stream, by_frame=True)
        else:
            self._refuse_sending(stream, 0)

    def reset_stream(self, stream: S) -> None:
        """Cut the stream in both directions at once (RST); nothing happens if it is over already."""
        if self.streams.get(stream.id) is not stream:
            return
        if not stream.first_flags & SYN:
            self._send_control(WINDOW_UPDATE | RST, stream.id, 0)
        self._lose(stream)

    def ping(self, now: float) -> int:
        """Send a ping; `PongReceived` with the id returned follows, unless the session fails."""
        ping_id = self._pings.start(now)
        self.deadline_moved = True
        self._send_control(PING | SYN, 0, ping_id)
        return ping_id

    def measure_quiet(self, now: float) -> None:
        """Measure the round trip, if that is due: nothing is under way yet that the answer would have to wait for."""
        self._measure(now, QUIET_MEASURE_SECONDS, quiet=True)

    def go_away(self, code: GoAwayCode = GoAwayCode.NORMAL) -> None:
        """Say that no new streams are taken; those that are open may finish. A second time does nothing.

        Streams that were taken are acknowledged first, so that the peer knows of every other one that it was not.
        """
        if self.failure is None and not self.go_away_sent:
            self.go_away_sent = True
            self._send_acks()
            self._send_control(GO_AWAY, 0, int(code))

    def data_to_send(self) -> list[bytes | memoryview]:
        """Take the frames to send now, as pieces to be written in order; the list is the caller's."""
        if self._unannounced:  # nearly all are written to at once
            self._announce_all()
        if len(self._unsent_acks) > self._limits.max_unsent_acks:
            self._send_acks()
        outgoing = self._outgoing
        self._outgoing = []
        self._control_bytes = 0
        return outgoing

    def held_bytes(self) -> int:
        """Bytes delivered to the owner and not handed back, over all streams."""
        return sum(stream.unconsumed_bytes for stream in self.streams.values())

    def largest_holder(self) -> S | None:
        """The stream that holds most bytes; None if there is none that holds any."""
        stream = max(self.streams.values(), key=lambda stream: stream.unconsumed_bytes, default=None)
        return stream if stream is not None and stream.unconsumed_bytes else None

    def end(self, error: ChannelError) -> list[S]:
        """The connection is gone, or is given up: all streams are lost. Returns those that were open."""
        if self.failure is None:
            self.failure = error
        streams = list(self.streams.values())
        for stream in streams:
            self._lose(stream)
        if self._budget is not None:
            self._budget.detach(self)
        return streams

    def _new_stream(self, stream_id: int, first_flags: int) -> S:
        assert self._stream_type is not None  # noqa: S101 - it makes them, or another `_new_stream` does
        return self._stream_type(stream_id, self._send_window_bytes, self._limits.initial_window_bytes, first_flags)

    def _refusal_to_open(self, most_unacknowledged: int) -> ChannelError | None:
        limits = self._limits
        if self.failure is not None:
            return ConnectionLost(f"the link is gone: {self.failure}", self.failure.code)
        if self.go_away_sent or self.go_away_received:
            return LimitExceeded("the link is draining and takes no new streams", ErrorCode.DRAINING)
        if len(self.streams) >= limits.max_streams:
            return LimitExceeded(f"{limits.max_streams} streams are open on the link", ErrorCode.TOO_MANY_STREAMS)
        if self._unacknowledged >= most_unacknowledged:
            message = f"{self._unacknowledged} streams on the link wait for the peer's acknowledgement"
            return LimitExceeded(message, ErrorCode.TOO_MANY_UNACKED)
        if self._next_id > MAX_STREAM_ID:
            return LimitExceeded("the link has used up its stream ids; open a new link", ErrorCode.DRAINING)
        return None

    def _enter(self, sender: int) -> ChannelError | None:
        """Say why a sender may not have another stream, if so.

        Its streams are counted only while they could be too many: as long as more is left than is open, nobody has more
        open than is left.
        """
        open_streams, most, counts = len(self.streams), self._most_of_senders, self._open_of
        if counts is None:
            if open_streams * 2 < most:
                return None
            counts = self._open_of = self._count_senders()
        elif open_streams * 4 < most:  # far below, so that what it took to count them was worth it
            self._open_of = None
            return None
        count, left = counts.get(sender, 0), most - open_streams
        if left <= 0 or count > left:
            message = f"the sender has {count} streams open on the link, of which {max(left, 0)} are left"
            return LimitExceeded(message, ErrorCode.TOO_MANY_STREAMS)
        counts[sender] = count + 1
        return None

    def _count_senders(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for stream in self.streams.values():
            if stream.sender:
                counts[stream.sender] = counts.get(stream.sender, 0) + 1
        return counts

    def _leave(self, counts: dict[int, int], sender: int) -> None:
        count = counts[sender] - 1
        if count:
            counts[sender] = count
        else:
            del counts[sender]

    def _refuse_sending(self, stream: S, size: int) -> None:
        """Raise for the owner's mistake; return if the stream is over, and what is sent to it may be dropped."""
        if stream.lost:
            return
        if not stream.writable:
            raise LocalProtocolError(f"stream {stream.id} was already ended on this side")
        raise LocalProtocolError(f"stream {stream.id}: {size} bytes exceed the window of {stream.send_window}")

    def _end_local(self, stream: S, *, by_frame: bool) -> None:
        if by_frame:
            first_flags = self._take_first_flags(stream)
            self._send_control(WINDOW_UPDATE | FIN | first_flags, stream.id, 0)
        stream.writable = False
        if not stream.readable:
            self._forget(stream)

    def _take_first_flags(self, stream: S) -> int:
        """The flags that the next frame of the stream has to carry, often none."""
        flags = stream.first_flags
        if flags == SYN and not self._compact:
            self._announce(stream)
            return 0
        if flags:
            self._drop_first_flags(stream)
        return flags

    def _announce(self, stream: S) -> None:
        """Open the stream by a frame of its own."""
        self._send_control(WINDOW_UPDATE | SYN, stream.id, 0)
        self._drop_first_flags(stream)

    def _announce_all(self) -> None:
        for stream in self.streams.values():
            if stream.first_flags & SYN:
                self._announce(stream)

    def _drop_first_flags(self, stream: S) -> None:
        if stream.first_flags & ACK:
            del self._unsent_acks[stream.id]
        else:
            self._unannounced -= 1
        stream.first_flags = 0

    def _send_acks(self) -> None:
        for stream in self._unsent_acks.values():
            self._send_control(WINDOW_UPDATE | ACK, stream.id, 0)
            stream.first_flags = 0
        self._unsent_acks.clear()
        self._acks_due_at = None

    def _measure(self, now: float, interval_seconds: float, *, quiet: bool = False) -> None:
        pings = self._pings
        if pings.measurement_due(now, interval_seconds):
            self._send_control(PING | SYN, 0, pings.measure(now, quiet=quiet))

    def _send_control(self, word: int, stream_id: int, length: int) -> None:
        self._outgoing.append(encode_header(word, stream_id, length))
        self._control_bytes += HEADER_BYTES

    def _lose(self, stream: S, *, by_reset: bool = False) -> None:
        stream.lost = True
        stream.refused = self.go_away_received and not stream.acknowledged and (by_reset or self._compact)
        stream.writable = stream.readable = False
        self._forget(stream)

    def _forget(self, stream: S) -> None:
        """Drop the stream's state, and give back everything that was counted for it."""
        del self.streams[stream.id]
        if self._open_of is not None and stream.sender:
            self._leave(self._open_of, stream.sender)
        self._drain_bytes += stream.receive_window
        if stream.first_flags:
            self._drop_first_flags(stream)
        if not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
        self._growth.release(stream)
        if self._budget is not None:
            self._budget.held_bytes -= stream.unconsumed_bytes
