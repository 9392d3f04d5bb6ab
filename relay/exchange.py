"""One call: the node's stream on one side and a sender on the other, from the request's head to the response's end.

Theory of operation. The sender's side has read the request's head; the exchange opens a stream on the listener's link,
writes the canonical head, and passes the request's content on as the node's credit allows. What comes back is parsed
strictly, and goes to the sender in the relay's own framing; the node gets credit only for what the sender's side has
taken. The response's states are

    HEAD ──▶ COUNTED | FRAMED ──▶ DONE        FRAMED is content in chunks, or up to the end of the stream
      └────▶ RAW ───────────────▶ DONE        after a 2xx to CONNECT, or a 101 that was asked for

An exchange belongs to one stream and to one call of one sender. Once it is DONE nothing of the stream can reach the
sender any more: bytes that come late reset the stream. No FIN goes to the node before the response has ended, except
as half-close of raw bytes. An ending that is not the response's own end is never passed on as one: the sender gets an
answer of the relay if none of the response has been sent yet, and a broken connection otherwise.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.deadlines import NEVER
from relay.forwarding import (
    ForwardedRequest,
    ForwardedResponse,
    forward_interim,
    forward_request_trailers,
    forward_trailers,
)
from relay.sender_side import NOBODY, SenderSide
from relay.stream_sender import StreamSender
from relay.use_kinds import UseKind
from trunkline.channel.bodies import BodyError, BodyReader, Chunk, encode_chunk, encode_last_chunk
from trunkline.channel.errors import ChannelError, ErrorCode
from trunkline.channel.fields import Field, Framing
from trunkline.channel.heads import HeadBuffer, HeadError
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.credentials import Destination
    from relay.front_door import FrontDoor
    from relay.grants import Grant

JOIN_BYTES: Final = 16 * 1024
MAX_INTERIM_RESPONSES: Final = 16
LINGER_SECONDS: Final = 5.0
SENDER_LOST: Final = "sender_lost"
LEAVING: Final = "the node is just leaving this relay"


class State(Enum):
    """How far the response is."""

    HEAD = auto()
    COUNTED = auto()
    FRAMED = auto()
    RAW = auto()
    DONE = auto()


_HEAD: Final = State.HEAD
_COUNTED: Final = State.COUNTED
_FRAMED: Final = State.FRAMED
_RAW: Final = State.RAW
_DONE: Final = State.DONE


class Exchange(StreamSender):
    """One call; also the handler of its stream."""

    __slots__ = (
        "_buffer", "_front", "_grant", "_interims", "_owed_bytes", "_reader", "_remaining", "_response", "_sender",
        "_started_at", "_state", "_use", "deadline", "request", "request_ended", "request_id",
    )  # fmt: skip

    def __init__(self, front: FrontDoor, sender: SenderSide, request: ForwardedRequest, grant: Grant) -> None:
        self._stream = None
        self._waiting = None
        self._ending = False
        self._end_sent = False
        self._front = front
        self._sender = sender
        self._grant = grant
        self._use = grant.use
        self._state = _HEAD
        self._owed_bytes = 0
        self._buffer: HeadBuffer | None = None
        self._interims = 0
        self._remaining = 0
        self._reader: BodyReader | None = None
        self._response: ForwardedResponse | None = None
        self.request = request
        self.request_ended = not request.has_content
        self.request_id = front.mint_request_id()
        self.deadline = NEVER
        self._started_at = front.call_started(self, grant, request.counts)

    # What the sender's side asks for.

    def open(self) -> None:
        """Opens the stream and sends the request's head; a failure is told to the sender's side."""
        grant = self._grant
        try:
            stream = self._stream = grant.open(self)
        except ChannelError as error:
            self._not_opened(error)
            return
        head = self.request.head(grant.assertion, self.request_id)
        if grant.prefix:
            head = grant.prefix + head
        if len(head) <= stream.send_window:
            stream.write(head)
            if self._waiting is not None:
                self._send_waiting()
        else:
            self._queue(head, first=True)

    @property
    def accepted(self) -> bool:
        """Whether the listener has shown that it took the stream."""
        return self._stream is not None and self._stream.acknowledged

    @property
    def response_begun(self) -> bool:
        """Whether the final response's head has been sent on."""
        return self._response is not None

    @property
    def awaits_continue(self) -> bool:
        """Whether the sender may still wait for a 100 before it sends content."""
        return self.request.expect_continue and not self._interims

    @property
    def kind(self) -> UseKind:
        """A raw stream, or an exchange that may yet become one."""
        return UseKind.STREAM if self._state is _RAW else UseKind.EXCHANGE

    @property
    def destination(self) -> Destination:
        """What is called, as the sender named it."""
        return self._grant.destination

    @property
    def started_at(self) -> float:
        """When the call was admitted, by the loop's clock."""
        return self._started_at

    @property
    def towards(self) -> tuple[str, str]:
        """The node that is called, which a workspace token does not name."""
        return self._grant.listener.node_id, self._grant.listener.workspace_id

    def silent(self, now: float) -> bool:
        """Whether the listener has had its time to take the stream, and has not."""
        return not self.accepted and now - self._started_at >= self._front.listener_seconds

    def send_content(self, chunks: list[Chunk]) -> None:
        """Passes content of the request on, in the request's own framing."""
        chunked = self.request.framing is Framing.CHUNKED
        for chunk in _joined(chunks):
            self._front.sent_bytes.count += len(chunk)
            if self._use is not None:
                self._use.spend(len(chunk))
            if not chunked:
                self._send(chunk)
            elif len(chunk) < JOIN_BYTES:
                self._send(encode_chunk(chunk))
            else:
                self._send(b"%x\r\n" % len(chunk))
                self._send(chunk)
                self._send(b"\r\n")

    def end_content(self, trailers: list[Field]) -> None:
        """The request's content is complete."""
        self.request_ended = True
        if self.request.framing is Framing.CHUNKED:
            self._send(encode_last_chunk(forward_request_trailers(trailers)))

    def send_raw(self, data: Chunk) -> None:
        """Passes raw bytes on."""
        self._front.sent_bytes.count += len(data)
        if self._use is not None:
            self._use.spend(len(data))
        self._send(data)

    def end_raw(self) -> None:
        """The sender sends no more raw bytes: half-close, once those that wait are sent."""
        self._end()
        self._check_raw_end()

    def sender_ready(self) -> None:
        """The sender takes bytes again: the node gets the credit that was held back."""
        owed, self._owed_bytes = self._owed_bytes, 0
        if owed and self._stream is not None:
            self._stream.consumed(owed)

    def sender_lost(self) -> None:
        """The sender is gone: the stream is reset, and the node's handler cancelled with it."""
        if self._state is not _DONE:
            self._close(SENDER_LOST)

    def sender_finished(self) -> None:
        """The sender has closed in good order behind its last raw byte; what waits for the node is still sent."""
        if self._state is _RAW and self._stream is not None and self._stream.writable:
            self._sender = NOBODY
            self.sender_ready()
            self.deadline = self._front.deadlines.now + self._front.limits.stream_stall_seconds
            self._front.deadlines.watch(self)
            if not self._ending:
                self.end_raw()
        else:
            self.sender_lost()

    def fail(self, outcome: Outcome, message: str) -> None:
        """Ends the call with an outcome of the relay's."""
        if self._state is _DONE:
            return
        begun = self._response is not None
        self._close(outcome.metric_label)
        if begun:
            self._sender.call_broken()
        else:
            self._sender.call_refused(outcome, message)

    def cut(self, outcome: Outcome) -> None:
        """The credential of the call is no longer good, or its node is locked."""
        what = "is locked" if outcome is Outcome.LOCKED else "was revoked"
        self.fail(outcome, f"the credential of this call, or what it reaches, {what}")

    def deadline_reached(self, now: float) -> None:
        """The node took too long to end its side."""
        self._front.deadlines.forget(self)
        self._reset()
        if self._state is not _DONE:
            self._close(SENDER_LOST)

    # What the stream tells.

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes of the response."""
        state = self._state
        if state is _HEAD:
            self._head_received(data)
        elif state is _COUNTED:
            self._counted_received(data)
        elif state is _FRAMED:
            self._framed_received(data)
        elif state is _RAW:
            self._deliver(data, len(data))
        else:
            self._front.deadlines.forget(self)
            self._reset()

    def end_received(self) -> None:
        """The node sends no more."""
        state = self._state
        if state is _DONE:
            if self.deadline != NEVER:
                self._front.deadlines.forget(self)
        elif state is _HEAD:
            self.fail(Outcome.BAD_RESPONSE, "the node ended the stream without a response")
        elif state is _RAW:
            self._raw_end_received()
        else:
            self._content_cut_short()

    def stream_lost(self, error: ChannelError) -> None:
        """The node reset the stream, or its link is gone."""
        stream, self._stream = self._stream, None
        self._front.deadlines.forget(self)
        if stream is not None and stream.refused:
            self.fail(Outcome.NO_LISTENER, LEAVING)
        elif error.code is ErrorCode.BUDGET_EXCEEDED:
            # Not 429, which would say that the node never had the call.
            self.fail(Outcome.LISTENER_LOST, "the relay ran short of memory for this call")
        else:
            self.fail(Outcome.LISTENER_LOST, "the node ended the call before it was complete")

    # Opening.

    def _not_opened(self, error: ChannelError) -> None:
        if error.code is ErrorCode.TOO_MANY_UNACKED:
            self._grant.listener.call_when_openable(self._open_again)
        elif error.code is ErrorCode.TOO_MANY_STREAMS:
            self.fail(Outcome.OVER_QUOTA, "the node has as many calls open as its link allows")
        else:
            self.fail(Outcome.NO_LISTENER, LEAVING)

    def _open_again(self) -> None:
        if self._state is _HEAD:
            self.open()

    def _all_sent(self) -> None:
        self._check_raw_end()
        self._sender.request_taken()

    # The response's direction.

    def _head_received(self, data: bytes | memoryview) -> None:
        if type(data) is not bytes:
            data = bytes(data)
        end = data.find(b"\r\n\r\n") + 4
        if self._buffer is not None or end == 3:
            self._head_in_pieces(data)
            return
        response = self._response_of(data[:end])
        if response is None:
            if self._state is _HEAD:
                self._interim_received(data, end)
        elif response.framing is Framing.LENGTH and len(data) - end == response.content_length:
            # The common case: the whole response at once, passed on in one piece.
            self._response = response
            content = data[end:]
            self._front.received_bytes.count += len(content)
            if self._use is not None:
                self._use.spend(len(content))
            self._sender.deliver(response.head + content)
            self._end_response()
        else:
            self._credit(end)
            self._begin_response(response, data[end:])

    def _response_of(self, raw: bytes) -> ForwardedResponse | None:
        """What a whole head means: as it was understood before, or anew; None if it is interim, or refused."""
        front = self._front
        if self.request_ended and not self._sender.closing:
            response = front.heads.known_response(raw, self.request, front.deadlines.date)
            if response is not None:
                return response
        try:
            return self._read_head(raw)
        except HeadError as error:
            self.fail(Outcome.BAD_RESPONSE, f"the node's response was refused: {error}")
            return None

    def _interim_received(self, data: bytes, size: int) -> None:
        """Goes on behind an interim response of `size` bytes."""
        self._credit(size)
        if len(data) > size:
            self._head_received(data[size:])

    def _head_in_pieces(self, data: bytes) -> None:
        """Collects the head, over interim responses, and begins the response that follows it."""
        buffer = self._buffer
        if buffer is None:
            buffer = self._buffer = HeadBuffer()
        received = len(data)
        try:
            response = None
            while response is None:
                raw = buffer.receive_data(data)
                if raw is None:
                    break
                data, buffer.leftover = buffer.leftover, b""
                response = self._read_head(raw)
        except HeadError as error:
            self.fail(Outcome.BAD_RESPONSE, f"the node's response was refused: {error}")
            return
        if response is not None:
            self._buffer = None
            self._credit(received - len(data))
            self._begin_response(response, data)
        elif self._stream is not None:
            self._credit(received)

    def _read_head(self, raw: bytes) -> ForwardedResponse | None:
        """Parses a head; None for an interim response, which is passed on at once."""
        request, sender, heads = self.request, self._sender, self._front.heads
        head = heads.parse_response(raw, request)
        if head.status < 200 and head.status != 101:
            self._interims += 1
            if self._interims > MAX_INTERIM_RESPONSES:
                raise HeadError("too_many_interim_responses", "too many interim responses")
            if request.minor_version == 1:
                sender.deliver(forward_interim(head, request))
            return None
        close = sender.closing or not self.request_ended
        response = ForwardedResponse(head, request, close=close, date=self._front.deadlines.date)
        if not close:
            heads.keep_response(raw, request, response)
        return response

    def _begin_response(self, response: ForwardedResponse, rest: bytes) -> None:
        """Sends the head and turns to what follows it."""
        self._response = response
        framing = response.framing
        if framing is Framing.NONE or (framing is Framing.LENGTH and response.content_length <= len(rest)):
            self._whole_response(response, rest)
            return
        if framing is Framing.LENGTH:
            self._sender.deliver(response.head)
            self._state = _COUNTED
            self._remaining = response.content_length
        elif framing is Framing.TUNNEL:
            self._state = _RAW
            self.request_ended = False
            self._sender.deliver(response.head)
            self._sender.became_raw()
        else:
            self._sender.deliver(response.head)
            self._state = _FRAMED
            self._reader = BodyReader(framing)
        if rest and self._state is not _DONE:
            self.data_received(rest)

    def _whole_response(self, response: ForwardedResponse, rest: bytes) -> None:
        size = response.content_length if response.framing is Framing.LENGTH else 0
        self._front.received_bytes.count += size
        if self._use is not None:
            self._use.spend(size)
        self._sender.deliver(response.head + rest[:size])
        self._end_response(late=len(rest) > size)

    def _counted_received(self, data: Chunk) -> None:
        size = len(data)
        if size < self._remaining:
            self._remaining -= size
            self._deliver(data, size)
        else:
            content = data if size == self._remaining else memoryview(data)[: self._remaining]
            self._front.received_bytes.count += len(content)
            if self._use is not None:
                self._use.spend(len(content))
            self._sender.deliver(content)
            self._end_response(late=size > self._remaining)

    def _framed_received(self, data: Chunk) -> None:
        reader, response = self._reader, self._response
        assert reader is not None  # noqa: S101 - the state says so
        assert response is not None  # noqa: S101
        try:
            piece = reader.receive_data(data)
        except BodyError:
            self.fail(Outcome.BAD_RESPONSE, "the node's response breaks its framing")
            return
        for chunk in _joined(piece.chunks):
            self._front.received_bytes.count += len(chunk)
            if self._use is not None:
                self._use.spend(len(chunk))
            self._deliver_framed(chunk, response)
        if piece.ended:
            self._end_framed(response, reader, late=len(piece.leftover) > 0)
        else:
            self._credit(len(data))

    def _deliver_framed(self, chunk: Chunk, response: ForwardedResponse) -> None:
        if response.framing_out is not Framing.CHUNKED:
            self._sender.deliver(chunk)
        elif len(chunk) < JOIN_BYTES:
            self._sender.deliver(encode_chunk(chunk))
        else:
            self._sender.deliver_pieces([b"%x\r\n" % len(chunk), chunk, b"\r\n"])

    def _end_framed(self, response: ForwardedResponse, reader: BodyReader, *, late: bool = False) -> None:
        if response.framing_out is Framing.CHUNKED:
            self._sender.deliver(encode_last_chunk(forward_trailers(reader.trailers, self.request.door)))
        self._end_response(late=late)

    def _content_cut_short(self) -> None:
        """The stream ended inside a response: complete only where its end is the response's."""
        response, reader = self._response, self._reader
        if response is not None and reader is not None and response.framing is Framing.CLOSE:
            self._end_framed(response, reader)
        else:
            self.fail(Outcome.BAD_RESPONSE, "the node ended the response before its end")

    def _raw_end_received(self) -> None:
        self._sender.raw_ended()
        self._check_raw_end()

    def _check_raw_end(self) -> None:
        """Raw bytes are over once both sides have ended theirs."""
        stream = self._stream
        if self._state is _RAW and self._end_sent and stream is not None and stream.end_delivered:
            self._end_response()

    def _deliver(self, data: Chunk, size: int) -> None:
        self._front.received_bytes.count += size
        if self._use is not None:
            self._use.spend(size)
        self._sender.deliver(data)
        self._credit(size)

    def _credit(self, size: int) -> None:
        if self._sender.congested:
            self._owed_bytes += size
        elif self._stream is not None:
            self._stream.consumed(size)

    # The end.

    def _end_response(self, *, late: bool = False) -> None:
        """The response is complete: let go of the stream, then of the sender."""
        response, stream = self._response, self._stream
        self._state = _DONE
        self._front.call_ended(self, self.request.counts, self._started_at)
        if self._use is not None:
            self._use.end()
        if stream is not None:
            if late or not (self.request_ended or self._ending) or self._waiting is not None:
                self._reset()
            elif not stream.readable:
                if stream.writable:
                    stream.end_late()
            else:
                self._end_sending()
                self.deadline = self._front.deadlines.now + LINGER_SECONDS
                self._front.deadlines.watch(self)
        self._sender.call_ended(keep_alive=response is not None and response.keep_alive)

    def _close(self, label: str) -> None:
        """The call ends without its response's end."""
        self._state = _DONE
        self._front.call_failed(self, self.request.door, self._started_at, label)
        if self._use is not None:
            self._use.end()
        self._reset()


def _joined(chunks: list[Chunk]) -> list[Chunk]:
    """What came at once, in one piece: chunks of a byte each would cost the next hop a frame each."""
    return chunks if len(chunks) < 2 else [b"".join(chunks)]
