"""One call: the node's stream on one side and a sender on the other, from the request's head to the response's end.

Theory of operation. The sender's side has read the request's head; the exchange opens a stream on the listener's link,
and passes the request on as the node's credit allows (`request_stream`). What comes back is parsed strictly, and goes
to the sender in the relay's own framing; the node gets credit only for what the sender's side has taken. The
response's states are

    HEAD ──▶ CONTENT ──▶ DONE        `response_heads`, `response_content`
      └────▶ RAW ──────▶ DONE        after a 2xx to CONNECT, or a 101 that was asked for

An exchange belongs to one stream and to one call of one sender. Once it is DONE nothing of the stream can reach the
sender any more: bytes that come late reset the stream. An ending that is not the response's own end is never passed on
as one: the sender gets an answer of the relay if none of the response has been sent yet, and a broken connection
otherwise.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.bounds.deadlines import NEVER
from relay.calls.content_rest import ContentRest
from relay.calls.request_stream import LEAVING, RequestStream
from relay.calls.response_content import ResponseContent, content_of
from relay.calls.response_heads import ResponseHeads
from relay.calls.sender_side import NOBODY, SenderSide
from relay.doors.forwarding import ForwardedRequest, ForwardedResponse
from relay.trust.use_kinds import UseKind
from trunkline.channel.bodies import BodyError, Chunk
from trunkline.channel.errors import ChannelError, ErrorCode
from trunkline.channel.fields import Framing
from trunkline.channel.heads import HeadError
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.admission.grants import Grant
    from relay.doors.front_door import FrontDoor

LINGER_SECONDS: Final = 5.0
SENDER_LOST: Final = "sender_lost"


class State(Enum):
    """How far the response is."""

    HEAD = auto()
    CONTENT = auto()
    RAW = auto()
    DONE = auto()


_HEAD: Final = State.HEAD
_CONTENT: Final = State.CONTENT
_RAW: Final = State.RAW
_DONE: Final = State.DONE


class Exchange(RequestStream):
    """One call; also the handler of its stream. It was admitted when the loop's clock was at `started_at`."""

    __slots__ = ("_content", "_heads", "_response", "_rest", "_sender", "_state", "deadline", "started_at")

    def __init__(self, front: FrontDoor, sender: SenderSide, request: ForwardedRequest, grant: Grant) -> None:
        RequestStream.__init__(self, front, request, grant)
        self._sender = sender
        self._state = _HEAD
        self._heads: ResponseHeads | None = None
        self._content: ResponseContent | None = None
        self._rest: ContentRest | None = None
        self._response: ForwardedResponse | None = None
        self.deadline = NEVER
        self.started_at = front.call_started(self, grant, request.counts)

    # What others want to know of the call.

    @property
    def kind(self) -> UseKind:
        """A raw stream, or an exchange that may yet become one."""
        return UseKind.STREAM if self._state is _RAW else UseKind.EXCHANGE

    @property
    def response_begun(self) -> bool:
        """Whether the final response's head has been sent on."""
        return self._response is not None

    @property
    def awaits_continue(self) -> bool:
        """Whether the sender, while the response has not begun, may wait for a 100 before it sends content."""
        return self.request.expect_continue and (self._heads is None or not self._heads.continued)

    @property
    def accepted(self) -> bool:
        """Whether the listener has shown that it took the stream, which may be over by now."""
        return self._response is not None or (self._stream is not None and self._stream.acknowledged)

    def silent(self, now: float) -> bool:
        """Whether the listener has had its time to take the stream, and has not."""
        return not self.accepted and now - self.started_at >= self._front.listener_seconds

    # What the sender's side tells.

    def end_raw(self) -> None:
        """The sender sends no more raw bytes: half-close, once those that wait are sent."""
        self._end()
        self._check_raw_end()

    def sender_ready(self) -> None:
        """The sender takes bytes again: the node gets the credit that was held back."""
        self._pay_credit()

    def sender_lost(self) -> None:
        """The sender is gone: the stream is reset, and the node's handler cancelled with it."""
        if self._state is not _DONE:
            self._close(SENDER_LOST)

    def sender_finished(self) -> None:
        """The sender has closed in good order behind its last raw byte; what waits for the node is still sent."""
        if self._state is _RAW and self._stream is not None and (self._stream.writable or self._ending):
            self._sender = NOBODY
            self.sender_ready()
            self._watch(self._front.limits.stream_stall_seconds)
            if not self._ending:
                self.end_raw()
        else:
            self.sender_lost()

    # What the stream tells.

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes of the response."""
        state = self._state
        if state is _HEAD:
            self._head_received(data)
        elif state is _CONTENT:
            if self._rest is None:
                self._content_received(data)
            else:
                self._rest.add(data)
        elif state is _RAW:
            self._charge_received(len(data))
            self._sender.deliver(data)
            self._credit(len(data), owed=self._sender.congested)
        else:
            self._front.deadlines.forget(self)
            self._reset()

    def end_received(self) -> None:
        """The node sends no more."""
        state = self._state
        if state is _HEAD:
            self.fail(Outcome.BAD_RESPONSE, "the node ended the stream without a response")
        elif state is _CONTENT:
            if self._rest is None:
                self._content_end_received()
            else:
                self._rest.ended = True
        elif state is _RAW:
            self._sender.raw_ended()
            self._check_raw_end()
        elif self.deadline != NEVER:
            self._front.deadlines.forget(self)

    def stream_lost(self, error: ChannelError) -> None:
        """The node reset the stream, or its link is gone."""
        stream, self._stream = self._stream, None
        short = error.code is ErrorCode.BUDGET_EXCEEDED
        if self._rest is not None and not short:
            self._rest.lost = error
            return
        self._front.deadlines.forget(self)
        if self._state is _RAW and stream is not None and stream.end_delivered and not short:
            self._end_response(late=False)  # all that the node had to say is here
        elif stream is not None and stream.refused:
            self.fail(Outcome.NO_LISTENER, LEAVING)
        elif short:
            # Not 429, which would say that the node never had the call.
            self.fail(Outcome.LISTENER_LOST, "the relay ran short of memory for this call")
        elif error.code is ErrorCode.STREAM_RESET:
            self.fail(Outcome.LISTENER_LOST, "the node ended the call before it was complete")
        else:
            self.fail(Outcome.LISTENER_LOST, "the way to the node was lost before the call was complete")

    def _open_again(self) -> None:
        if self._state is _HEAD:
            self.open()

    def _all_sent(self) -> None:
        self._check_raw_end()
        if self.congested:
            self._sender.request_passed()
        else:
            self._sender.request_taken()

    def _request_taken(self) -> None:
        self._sender.request_taken()

    # The response.

    def _head_received(self, data: bytes | memoryview) -> None:
        if type(data) is not bytes:
            data = bytes(data)
        if self._heads is None and self.request_ended and not self._sender.closing:
            front = self._front
            response = front.heads.known_response(data, self.request, front.deadlines.date)
            if response is not None:
                end = len(response.raw)
                self._begin_response(response, data[end:], end)
                return
        self._read_heads(data)

    def _read_heads(self, data: bytes) -> None:
        """Reads heads that are not known, or do not come in one piece."""
        heads = self._heads
        if heads is None:
            heads = self._heads = ResponseHeads(self._front, self.request, self._sender)
        try:
            response = heads.receive_data(data, request_ended=self.request_ended)
        except HeadError as error:
            self.fail(Outcome.BAD_RESPONSE, f"the node's response was refused: {error}")
            return
        if response is not None:
            self._heads = None
            rest = heads.take_leftover()
            if not self._sender.congested:
                self._pay_credit()
            self._begin_response(response, rest, len(data) - len(rest))
        elif heads.begun:
            self._hold_head(len(data))
        else:
            self._credit(len(data), owed=self._sender.congested)

    def _begin_response(self, response: ForwardedResponse, rest: bytes, head_bytes: int) -> None:
        """Sends the head and turns to what follows it."""
        self._response = response
        framing = response.framing
        size = response.content_length if framing is Framing.LENGTH else 0
        if framing is Framing.NONE or (framing is Framing.LENGTH and size <= len(rest)):
            # The common case: the whole response at once, passed on in one piece.
            late = len(rest) > size
            self._charge_received(size)
            self._sender.deliver(response.head + (rest[:size] if late else rest))
            self._end_response(late=late)
            return
        self._credit(head_bytes, owed=self._sender.congested)
        self._sender.deliver(response.head)
        if framing is Framing.TUNNEL:
            self._state = _RAW
            self.request_ended = False
            self._sender.became_raw()
        else:
            self._state = _CONTENT
            self._content = content_of(response, self.request.door)
        if rest and self._state is not _DONE:
            self.data_received(rest)

    def _content_received(self, data: Chunk) -> None:
        left = self._pass_on(data)
        if left:
            self._rest = ContentRest(left)
            self._front.call_soon(self._take_rest)

    def _pass_on(self, data: Chunk) -> Chunk:
        """Passes content on; returns what is too much for one turn of the loop."""
        content = self._content
        assert content is not None  # noqa: S101 - the state says so
        try:
            size = content.pass_on(data, self._sender)
        except BodyError:
            self.fail(Outcome.BAD_RESPONSE, "the node's response breaks its framing")
            return b""
        self._charge_received(size)
        if content.ended:
            self._end_response(late=content.late or (self._rest is not None and len(self._rest.pieces) > 0))
            return b""
        left = content.leftover
        self._credit(len(data) - len(left), owed=self._sender.congested)
        return left if self._state is _CONTENT else b""

    def _take_rest(self) -> None:
        """Passes on more of the chunks that were too many for one turn of the loop, and then what came behind them."""
        rest = self._rest
        if rest is None:
            return
        rest.begin_turn()
        while (piece := rest.take()) is not None:
            rest.put_back(self._pass_on(piece))
            if self._rest is None:
                return
        if rest.pieces:
            self._front.call_soon(self._take_rest)
            return
        self._rest = None
        if rest.lost is not None:
            self.stream_lost(rest.lost)
        elif rest.ended:
            self._content_end_received()

    def _content_end_received(self) -> None:
        content = self._content
        assert content is not None  # noqa: S101 - the state says so
        try:
            content.receive_end(self._sender)
        except BodyError:
            self.fail(Outcome.BAD_RESPONSE, "the node ended the response before its end")
            return
        self._end_response(late=False)

    def _check_raw_end(self) -> None:
        """Raw bytes are over once both sides have ended; a node that ended first has its time to take the last."""
        stream = self._stream
        if self._state is _RAW and stream is not None and stream.end_delivered:
            if self._end_sent:
                self._end_response(late=False)
            elif self._ending:
                self._watch(self._front.limits.stream_stall_seconds)

    # The end.

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
        locked = outcome is Outcome.LOCKED
        what = "is locked" if locked else "was revoked"
        ending = Outcome.CUT_LOCKED if locked else Outcome.CUT_REVOKED
        self.fail(ending, f"the credential of this call, or what it reaches, {what}")

    def deadline_reached(self, now: float) -> None:
        """The node took too long to end its side, or to take the last raw bytes."""
        self._front.deadlines.forget(self)
        self._reset()
        if self._state is not _DONE:
            self._close(SENDER_LOST)
            self._sender.call_broken()

    def _end_response(self, *, late: bool) -> None:
        """The response is complete: let go of the stream, then of the sender."""
        response = self._response
        self._state, self._rest = _DONE, None
        self._front.call_ended(self, self.request.counts, self.started_at)
        self._end_use()
        if self._sender.congested:
            self._count_no_more()  # what waits for the sender is counted on his side from here on
        if self._let_go(late=late):
            self._watch(LINGER_SECONDS)
        self._sender.call_ended(keep_alive=response is not None and response.keep_alive)

    def _close(self, label: str) -> None:
        """The call ends without its response's end."""
        self._state, self._rest = _DONE, None
        self._front.call_failed(self, self.request.door, self.started_at, label)
        self._end_use()
        self._reset()

    def _watch(self, seconds: float) -> None:
        self.deadline = self._front.deadlines.now + seconds
        self._front.deadlines.watch(self)
