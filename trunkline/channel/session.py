"""One yamux session without input or output: received bytes become events, calls become bytes to send.

Theory of operation. The owner passes what it receives to `receive_data` and acts on the events, in order; it sends
what `data_to_send` returns; it calls `handle_deadline` when `next_deadline` has come. The session never waits, reads
no clock (`now` is in seconds, monotonic), logs nothing and calls nobody back.

* A stream is a member of `streams` from its SYN until both sides have sent FIN or either has sent RST. Frames for
  streams that are not members are dropped, as they may have crossed our RST. How many bytes may come so is bounded by
  the credit that those streams still had.
* ACK rides on the first frame that an accepted stream sends; one that stays quiet is acknowledged after a short while.
* SYN and FIN ride on DATA only if the peer is `compact`, and have frames of their own otherwise. yamux-js drops the
  payload of a frame with SYN, and the Go library wakes its reader on FIN before it has copied the payload of the same
  frame. A stream that was opened but not written to is announced by the next `data_to_send`.
* A mistake of the peer ends the session: a GoAway with code 1 is queued and `SessionFailed` is the last event. A
  mistake of the owner raises `LocalProtocolError` and changes nothing. What the owner sends to a stream that is lost
  is dropped, since the owner may not have seen the event yet.
* Nothing is kept of what passes through but the frames waiting to be sent; those without payload are counted, and
  a peer that provokes more of them than `Limits.max_control_backlog_bytes` is broken or hostile.
"""

from trunkline.channel.crediting import CreditingSession
from trunkline.channel.errors import ChannelError, ConnectionLost, ErrorCode, RemoteProtocolError
from trunkline.channel.events import (
    DataReceived,
    Event,
    GoAwayReceived,
    PongReceived,
    SessionFailed,
    StreamEnded,
    StreamOpened,
    StreamResetReceived,
    WindowOpened,
)
from trunkline.channel.frames import (
    ACK,
    CONTINUED,
    DATA,
    FIN,
    FLAGS_MASK,
    GO_AWAY,
    KNOWN_FLAGS,
    MAX_WINDOW_BYTES,
    PING,
    RST,
    SYN,
    WINDOW_UPDATE,
    GoAwayCode,
)
from trunkline.channel.limits import RateBound
from trunkline.channel.sending import Role, S

__all__ = ["Role", "Session"]


class Session(CreditingSession[S]):
    """Both ends run this class. See the module for the theory, `Limits` for what bounds it."""

    __slots__ = ()

    @property
    def unread(self) -> bool:
        """Whether frames wait that were too many for one call: call `receive_data` again, with or without new bytes."""
        return self.failure is None and self._decoder.unread

    def next_deadline(self) -> float | None:
        """When `handle_deadline` is to be called, in the seconds of `now`; None for never."""
        if self.failure is not None:
            return None
        deadline = self._pings.deadline()
        if self._acks_due_at is not None and (deadline is None or self._acks_due_at < deadline):
            return self._acks_due_at
        return deadline

    def handle_deadline(self, now: float) -> list[Event[S]]:
        """Do what is due: acknowledge, ping, or give up a silent peer. Too early a call does nothing."""
        if self.failure is not None:
            return []
        if self._acks_due_at is not None and now >= self._acks_due_at:
            self._send_acks()
        if self._pings.peer_is_silent(now):
            silence = now - self._pings.heard_at
            error = ConnectionLost(f"nothing from the peer for {silence:.1f} s", ErrorCode.PEER_SILENT)
            return [SessionFailed(error, self.end(error))]
        if self._pings.keepalive_due(now):
            self.ping(now)
        return []

    def receive_data(self, data: bytes, now: float) -> list[Event[S]]:
        """Take in the next bytes of the connection, of any number, and return what they mean.

        Large payloads in the events are views of `data`, so it must not change. After a failure nothing is taken in.
        What `turn_frames` leaves is kept, and `unread` says so.
        """
        events: list[Event[S]] = []
        if self.failure is not None:
            return events
        self._pings.heard_at = now
        streams = self.streams
        held = 0
        try:
            for word, stream_id, length, payload in self._decoder.receive_data(data):
                if word == DATA:
                    stream = streams.get(stream_id)
                    size = len(payload)
                    if size == length and stream is not None and stream.readable and 0 < size <= stream.receive_window:
                        stream.receive_window -= size
                        stream.unconsumed_bytes += size
                        held += size
                        events.append(DataReceived(stream, payload, False))
                        continue
                if word == CONTINUED:
                    held += self._receive_payload(payload, length, events)
                elif word < PING:
                    held += self._receive_stream_frame(word, stream_id, length, payload, now, events)
                else:
                    self._receive_session_frame(word, stream_id, length, now, events)
            self._check_after_receiving()
        except ChannelError as error:
            self._fail(error, events)
        if self._budget is not None:
            self._budget.held_bytes += held
        return events

    def _check_after_receiving(self) -> None:
        if self._decoder.failure is not None:
            raise self._decoder.failure
        if self._control_bytes > self._limits.max_control_backlog_bytes:
            raise RemoteProtocolError("the peer does not read the answers that it asks for", ErrorCode.RATE_EXCEEDED)

    def _fail(self, error: ChannelError, events: list[Event[S]]) -> None:
        if isinstance(error, RemoteProtocolError):
            self._send_control(GO_AWAY, 0, int(GoAwayCode.PROTOCOL_ERROR))
        events.append(SessionFailed(error, self.end(error)))

    # Frames of streams. Each returns the number of bytes that it delivered.

    def _receive_stream_frame(
        self, word: int, stream_id: int, length: int, payload: bytes | memoryview, now: float, events: list[Event[S]]
    ) -> int:
        flags = word & FLAGS_MASK
        if not stream_id or flags & ~KNOWN_FLAGS:
            raise RemoteProtocolError(f"the peer sent a frame with flags {flags:#x} for stream {stream_id}")
        is_data = word < WINDOW_UPDATE
        if flags & SYN:
            stream = self._accept(stream_id, flags, length if is_data else 0, now, events)
        else:
            stream = self.streams.get(stream_id)
        if stream is None:
            self._drain_frame(length if is_data else 0, now)
            return 0
        if flags & ACK and not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
        if flags & RST:
            self._receive_reset(stream, now, events)
            self._drain_frame(length if is_data else 0, now)
            return 0
        if is_data and length:
            return self._receive_data_frame(stream, flags, length, payload, events)
        if not is_data:
            self._receive_credit(stream, flags, length, now, events)
        elif not flags:
            self._spend(self._idle_frames, now, "frames that bring nothing")
        if flags & FIN:
            self._receive_end(stream, now, events)
        return 0

    def _accept(self, stream_id: int, flags: int, size: int, now: float, events: list[Event[S]]) -> S | None:
        """Make a stream that the peer opens; None if it is refused."""
        if (stream_id ^ self._role.value) & 1 == 0 or flags & (ACK | RST):
            raise RemoteProtocolError(f"the peer may not open stream {stream_id} with flags {flags:#x}")
        if stream_id in self.streams:
            raise RemoteProtocolError(f"the peer opened stream {stream_id}, which is open")
        if size > self._limits.initial_window_bytes:
            raise _window_exceeded(stream_id, size, self._limits.initial_window_bytes)
        if self.go_away_sent or len(self.streams) >= self._limits.max_streams:
            self._spend(self._resets_received, now, "streams that are refused")
            self._send_control(WINDOW_UPDATE | RST, stream_id, 0)
            self._drain_bytes += self._limits.initial_window_bytes
            return None
        stream = self._new_stream(stream_id, ACK)
        self.streams[stream_id] = self._unsent_acks[stream_id] = stream
        if self._acks_due_at is None:
            self._acks_due_at = now + self._limits.acknowledge_after_seconds
            self.deadline_moved = True
        events.append(StreamOpened(stream))
        return stream

    def _receive_data_frame(
        self, stream: S, flags: int, length: int, payload: bytes | memoryview, events: list[Event[S]]
    ) -> int:
        if length > stream.receive_window:
            raise _window_exceeded(stream.id, length, stream.receive_window)
        self._receiving = stream
        self._receiving_ends = bool(flags & FIN)
        return self._receive_payload(payload, length - len(payload), events)

    def _receive_payload(self, payload: bytes | memoryview, left: int, events: list[Event[S]]) -> int:
        """Deliver a piece of the payload that is being received; `left` bytes of it are still to come."""
        stream = self._receiving
        size = len(payload)
        if stream is None or not size:
            return 0
        if not left:
            self._receiving = None
        stream.receive_window -= size
        if not stream.readable:
            # After its FIN, as the Go library can do when a write and a close race, or after our RST.
            return 0
        stream.unconsumed_bytes += size
        ended = not left and self._receiving_ends
        events.append(DataReceived(stream, payload, ended))
        if ended:
            self._end_remote(stream)
        return size

    def _receive_credit(self, stream: S, flags: int, credit: int, now: float, events: list[Event[S]]) -> None:
        if credit < self._limits.min_credit_bytes and not flags:
            self._spend(self._idle_frames, now, "window updates without use")
        window = stream.send_window
        if window + credit > MAX_WINDOW_BYTES:
            raise RemoteProtocolError(f"stream {stream.id}: the peer opened its window beyond 4 GiB")
        stream.send_window = window + credit
        if credit and not window and stream.writable:
            events.append(WindowOpened(stream))

    def _receive_end(self, stream: S, now: float, events: list[Event[S]]) -> None:
        if not stream.readable:
            self._spend(self._idle_frames, now, "FINs for ended streams")
            return
        events.append(StreamEnded(stream))
        self._end_remote(stream)

    def _end_remote(self, stream: S) -> None:
        stream.readable = False
        if not stream.writable:
            self._forget(stream)

    def _receive_reset(self, stream: S, now: float, events: list[Event[S]]) -> None:
        events.append(StreamResetReceived(stream))
        self._lose(stream, by_reset=True)
        if (stream.id ^ self._role.value) & 1:
            self._spend(self._resets_received, now, "streams that are reset")

    def _drain_frame(self, size: int, now: float) -> None:
        """Take note of a frame for a stream that is not open, and drop its payload."""
        self._receiving = None
        self._spend(self._idle_frames, now, "frames for streams that are not open")
        self._drain_bytes -= size
        if self._drain_bytes < 0:
            message = "the peer sends more for streams that are not open than it had credit for"
            raise RemoteProtocolError(message, ErrorCode.WINDOW_EXCEEDED)

    # Frames of the session

    def _receive_session_frame(
        self, word: int, stream_id: int, length: int, now: float, events: list[Event[S]]
    ) -> None:
        if stream_id:
            raise RemoteProtocolError(f"the peer sent a frame of the session for stream {stream_id}")
        if word == PING | SYN:
            self._spend(self._pings_received, now, "pings")
            self._send_control(PING | ACK, 0, length)
        elif word == PING | ACK:
            rtt = self._pings.answered(length, now)
            if rtt is None:
                self._spend(self._pings_received, now, "answers to pings that were not sent")
            else:
                events.append(PongReceived(length, rtt))
        elif word == GO_AWAY:
            self._receive_go_away(length, events)
        else:
            raise RemoteProtocolError(f"the peer sent a frame of the session with flags {word & FLAGS_MASK:#x}")

    def _receive_go_away(self, code: int, events: list[Event[S]]) -> None:
        events.append(GoAwayReceived(code))
        if code == GoAwayCode.PROTOCOL_ERROR:
            raise ConnectionLost("the peer reports that we broke the protocol", ErrorCode.PEER_FAILED)
        if code != GoAwayCode.NORMAL:
            raise ConnectionLost(f"the peer reports that it failed (code {code})", ErrorCode.PEER_FAILED)
        self.go_away_received = True

    def _spend(self, bound: RateBound, now: float, what: str) -> None:
        if not bound.spend(now):
            raise RemoteProtocolError(f"the peer sends too many {what}", ErrorCode.RATE_EXCEEDED)


def _window_exceeded(stream_id: int, size: int, window: int) -> RemoteProtocolError:
    message = f"stream {stream_id}: the peer sent {size} bytes into a window of {window}"
    return RemoteProtocolError(message, ErrorCode.WINDOW_EXCEEDED)
