"""Links of senders, and their streams: each stream carries one call, with its own token.

Theory of operation. A stream's next bytes are its request's HEAD, then its CONTENT; behind that it is BUSY until the
response has ended. After a 2xx to CONNECT or a 101 it is RAW. Once DONE it waits a while for the sender's own end.

    HEAD ──▶ CONTENT ──▶ BUSY ──▶ DONE         every state ──▶ DONE
      └──▶ BUSY ──▶ RAW ──▶ DONE

Nothing may follow a request but raw bytes: a stream is never used again, and what comes while it is BUSY breaks it.
Content that comes in very many chunks is taken in by slices, and what comes meanwhile waits behind it (`content_rest`).
The sender gets credit for what the node has taken. What it is sent, deadlines and the end are in `answering_stream`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from relay.bounds.deadlines import NEVER, RATE_INTERVAL_SECONDS
from relay.calls.content_rest import TURN_CHUNKS, ContentRest
from relay.calls.exchange import Exchange
from relay.calls.request_content import RequestContent
from relay.doors.entry import DoorRefusal
from relay.doors.forwarding import ForwardedRequest
from relay.senders.answering_stream import AnsweringStream, State
from relay.trust.credentials import Refusal
from relay.trust.use_kinds import UseKind
from trunkline.channel.bodies import Chunk
from trunkline.channel.errors import ChannelError, ErrorCode
from trunkline.channel.heads import HeadBuffer, HeadError
from trunkline.channel.link import Link, LinkStream
from trunkline.channel.outcomes import Outcome, outcome_of_head_error

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor
    from relay.links.registry import Registry


class SenderLink:
    """The owner of a sender's link."""

    link: Link
    kind: Final = UseKind.SENDER
    towards: Final = None

    def __init__(self, front: FrontDoor, registry: Registry) -> None:
        self._front = front
        self._registry = registry

    def stream_offered(self, stream: LinkStream) -> SenderStream:
        """Serve a call."""
        return SenderStream(self._front, stream)

    def go_away_received(self, link: Link, code: Any) -> None:
        """The sender opens no more calls; those in progress go on."""

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        """The link has ended."""
        self._registry.detach_sender(self, error)

    def cut(self, outcome: Outcome) -> None:
        """The credential that the link was opened with is no longer good."""
        self.link.abort()


_HEAD: Final = State.HEAD
_CONTENT: Final = State.CONTENT
_BUSY: Final = State.BUSY
_RAW: Final = State.RAW
_DONE: Final = State.DONE


class SenderStream(AnsweringStream):
    """One stream of a sender's link: the handler of the stream, and the sender's side of its call."""

    __slots__ = ("_buffer",)

    def __init__(self, front: FrontDoor, stream: LinkStream) -> None:
        AnsweringStream.__init__(self, front, stream)
        self._buffer: HeadBuffer | None = None

    # What the stream tells.

    def data_received(self, data: bytes | memoryview) -> None:
        """Bytes of the sender."""
        state = self._state
        if state is _HEAD:
            self._take_head(data)
        elif state is _CONTENT:
            if self._rest is None:
                self._content_received(data)
            else:
                self._rest.add(data)
        elif state is _RAW and self._exchange is not None:
            self._exchange.send_raw(data)
            self._hand_back(len(data))
        elif state is _BUSY:
            self._break(Outcome.BAD_REQUEST, "a stream carries one request")
        elif self._stream is not None:
            self._stream.consumed(len(data))

    def end_received(self) -> None:
        """The sender sends no more: half-close of raw bytes, the end of an unfinished request, else nothing."""
        if self._rest is not None:
            self._rest.ended = True
        elif self._state is _RAW and self._exchange is not None:
            self._exchange.end_raw()
        elif self._state is _HEAD or self._state is _CONTENT:
            self._break(Outcome.BAD_REQUEST, "the stream ended inside the request")
        elif self._state is _DONE:
            self._front.deadlines.forget(self)

    def stream_lost(self, error: ChannelError) -> None:
        """The sender gave the call up, or its link is gone; closed in good order, that takes no raw bytes back."""
        stream, exchange = self._stream, self._exchange
        self._stream = None
        in_order = stream is not None and stream.link.session.go_away_received and stream.end_delivered
        if exchange is not None and self._state is _RAW and in_order and error.code is ErrorCode.CONNECTION_LOST:
            self._exchange = None
            exchange.sender_finished()
        self.abort()

    # The request.

    def _take_head(self, data: bytes | memoryview) -> None:
        if type(data) is not bytes:
            data = bytes(data)
        if self._buffer is None:
            request = self._front.heads.by_link.find(data)
            if request is not None:
                self._hand_back_head(len(data))
                self._begin(request)
                return
            self._buffer = HeadBuffer()
        try:
            raw = self._buffer.receive_data(data)
            if raw is None:
                self._hold_head(len(data))
                return
            read = self._front.heads.read_on_link(raw)
        except HeadError as error:
            self._refuse(outcome_of_head_error(error), str(error))
            return
        leftover, self._buffer = self._buffer.leftover, None
        self.request_taken()
        self._hand_back_head(len(data) - len(leftover))
        if isinstance(read, ForwardedRequest):
            self._begin(read)
            if leftover:
                self.data_received(leftover)
        elif isinstance(read, DoorRefusal):
            self._refuse(read.outcome, read.message)

    def _hand_back_head(self, size: int) -> None:
        """Gives the credit for a whole head back where it took more of the window than content could do without.

        Else it is not worth it: most streams bring nothing more.
        """
        stream = self._stream
        if stream is not None and stream.receive_window * 2 < stream.window_bytes:
            self._credit(size, owed=False)

    def _begin(self, request: ForwardedRequest) -> None:
        front = self._front
        grant = front.decide(request)
        if isinstance(grant, Refusal):
            self._refuse(grant.outcome, grant.message, head_only=request.method == b"HEAD")
            return
        now = front.deadlines.now
        self.deadline = now + (RATE_INTERVAL_SECONDS if request.has_content else front.listener_seconds)
        self._exchange = exchange = Exchange(front, self, request, grant)
        if request.has_content:
            self._state = _CONTENT
            self._content = RequestContent(request, turn_chunks=TURN_CHUNKS)
        else:
            self._state = _BUSY
        exchange.open()

    def _content_received(self, data: Chunk) -> None:
        left = self._take_content(data)
        if left:
            self._rest = ContentRest(left)
            self._front.call_soon(self._take_rest)

    def _take_content(self, data: Chunk) -> Chunk:
        """Takes content in; returns what is too much for one turn of the loop."""
        content, exchange = self._content, self._exchange
        left: Chunk = b""
        if content is not None and exchange is not None:
            ended = content.pass_on(data, exchange)
            if self._state is _CONTENT:
                if ended:
                    self._end_content(content, exchange)
                else:
                    left = content.leftover
        self._hand_back(len(data) - len(left))
        return left

    def _end_content(self, content: RequestContent, exchange: Exchange) -> None:
        self._content = None
        self._state = _BUSY
        self.deadline = self._front.deadlines.now + self._front.listener_seconds
        exchange.end_content(content.trailers)
        if content.leftover:
            self._break(Outcome.BAD_REQUEST, "a stream carries one request")

    def _take_rest(self) -> None:
        """Takes in more of the chunks that were too many for one turn of the loop, and then what came behind them."""
        rest = self._rest
        if rest is None:
            return
        rest.begin_turn()
        while self._state is _CONTENT and (piece := rest.take()) is not None:
            rest.put_back(self._take_content(piece))
        if self._state is _CONTENT and rest.pieces:
            self._front.call_soon(self._take_rest)
            return
        self._rest = None
        for piece in rest.pieces:
            self.data_received(piece)
        if rest.ended:
            self.end_received()

    def _hand_back(self, size: int) -> None:
        """Lets the sender send more, once the node has room and it is the call's turn."""
        exchange = self._exchange
        if exchange is not None and exchange.congested and exchange.node_has_room and self._stream is not None:
            self._stream.withhold(size)
        else:
            self._credit(size, owed=exchange is not None and exchange.congested)

    def _break(self, outcome: Outcome, message: str) -> None:
        if self._exchange is not None:
            self._exchange.fail(outcome, message)
        else:
            self._refuse(outcome, message)

    # What the exchange asks for.

    def request_passed(self) -> None:
        """What came has gone to the node, and counts as held no more; credit for it waits for the call's turn."""
        owed, self._owed_bytes = self._owed_bytes, 0
        if self._stream is not None:
            self._stream.withhold(owed)

    def request_taken(self) -> None:
        """More may come: the node has room, and it is the call's turn."""
        self._pay_credit()
        if self._stream is not None and self._stream.withheld_bytes:
            self._stream.give(self._stream.withheld_bytes)

    def became_raw(self) -> None:
        """From here on bytes pass as they are."""
        self._state = _RAW
        self.deadline = NEVER
