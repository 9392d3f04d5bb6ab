"""A sender's TLS connection at the relay's port: HTTP/1.1, one call after the other, or the beginning of a link.

Theory of operation. A connection is READY for a head; then a call is in progress: its request's CONTENT comes in, and
behind that the connection is BUSY until the response has ended, when it is READY again or closes. After a 2xx to
CONNECT or a 101 it is RAW. A request for `/v1/link` makes it LINKING until the link takes the transport over.

    READY ──▶ CONTENT ──▶ BUSY ──▶ READY         every state ──▶ ENDING
      ├──▶ BUSY ──▶ RAW
      └──▶ LINKING ──▶ the link's

Calls never overlap: what comes while one is BUSY waits. A connection stays BUSY until the sender takes its answers.
Where it is not sure that what waits is a request (behind an upgrade or CONNECT that was refused, or content that
nobody took) it is thrown away and the connection closed. Content that comes in very many chunks is taken in by slices,
between which all others on the loop have their turn; what is left waits in the same place. The relay's own answers,
deadlines and the end are in `answering_connection`, the flow of bytes and the steps of the end in `transport_flow`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from relay.bounds.deadlines import NEVER, RATE_INTERVAL_SECONDS
from relay.calls.content_rest import TURN_CHUNKS
from relay.calls.exchange import Exchange
from relay.calls.request_content import RequestContent
from relay.doors.entry import Door, LinkAttempt, ReadinessQuestion
from relay.doors.forwarding import ForwardedRequest
from relay.senders.answering_connection import AnsweringConnection, State
from relay.senders.own_answers import RETRY_AFTER_SECONDS
from relay.senders.transport_flow import TransportFlow
from relay.trust.credentials import Refusal
from trunkline.channel.bodies import Chunk
from trunkline.channel.heads import HeadError
from trunkline.channel.outcomes import outcome_of_head_error

if TYPE_CHECKING:
    from relay.senders.sender_port import SenderPort
    from trunkline.runtime.listening import Source

MAX_REFUSALS: Final = 32
"""Calls refused in a row, other than for a while only, after which a connection is closed."""

_READY: Final = State.READY
_CONTENT: Final = State.CONTENT
_BUSY: Final = State.BUSY
_RAW: Final = State.RAW
_LINKING: Final = State.LINKING
_ENDING: Final = State.ENDING


class SenderConnection(AnsweringConnection):
    """The protocol of one connection, and the sender's side of its calls.

    It is an asyncio.Protocol in all but its bases, since a class that is compiled cannot derive from one that is not.
    """

    __slots__ = ("_finished", "_fresh", "_last", "_port", "_refusals", "_strange", "source")

    def __init__(self, port: SenderPort, source: Source) -> None:
        AnsweringConnection.__init__(self, port.front, closing=port.closing)
        self.source = source
        self._port = port
        self._last: ForwardedRequest | None = None
        self._fresh = True
        self._strange = True
        self._finished = False
        self._refusals = 0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up; the first request is awaited."""
        # Transports of uvloop and aiofastnet have its methods, and are not derived from it.
        self._transport = cast(asyncio.Transport, transport)
        self._flow = TransportFlow(self._transport, self._front)
        self._port.admit(self)
        self.deadline = self._front.deadlines.now + self._front.limits.head_seconds

    def data_received(self, data: bytes) -> None:
        """Bytes of the sender."""
        state = self._state
        if state is _READY:
            request = None if self._heads.begun else self._known(data)
            if request is not None:
                self._begin(request)
            else:
                self._take(data)
        elif state is _CONTENT:
            if self._flow.held:  # chunks that wait for their turn
                self._flow.hold(data)
            else:
                self._take_content(data)
        elif state is _RAW:
            self._pass_raw(data)
        elif state is _BUSY or state is _LINKING:
            self._flow.hold(data)

    def eof_received(self) -> None:
        """The sender has closed in good order; TLS has no half-close here, so the connection ends."""
        self._finished = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        exchange, self._exchange = self._exchange, None
        self._state = _ENDING
        self._flow.part()
        self._port.forget(self)
        if exchange is not None:
            if self._finished:
                exchange.sender_finished()
            else:
                exchange.sender_lost()

    def pause_writing(self) -> None:
        """The sender does not take what was written."""
        limits = self._front.limits
        self._flow.pause_writing(limits.stream_stall_seconds if self._state is _RAW else limits.write_stall_seconds)
        if self._exchange is None:
            self._flow.call_over()

    def resume_writing(self) -> None:
        """It does again."""
        self._flow.resume_writing()
        if self._exchange is not None:
            self._exchange.sender_ready()
        elif self._state is _BUSY:
            self._await_request()

    @property
    def idle_since(self) -> float:
        """When the last call ended, by the clock of the deadlines, while the next one is awaited; else `NEVER`."""
        if self._state is not _READY or self._fresh or self._heads.begun:
            return NEVER
        return self.deadline - self._front.idle_seconds

    # Requests.

    def _known(self, data: bytes) -> ForwardedRequest | None:
        """The request that the bytes are, if they are one that came before, or like one, most often the last here."""
        last = self._last
        if last is not None:
            if last.raw == data:
                return last
            if last.kin is not None:
                last = last.kin
        request = self._front.heads.by_connection.find(data, last)
        if request is not None:
            self._last = request
        return request

    def _take(self, data: bytes) -> None:
        """Takes heads from the bytes until a call is in progress or more is needed."""
        while data and self._state is _READY:
            data = self._take_head(data)
        if not data:
            return
        if self._state is _CONTENT:
            self._take_content(data)
        elif self._state is _BUSY or self._state is _LINKING:
            self._flow.hold(data)

    def _take_head(self, data: bytes) -> bytes:
        """Reads a head and begins its call; returns the bytes behind it."""
        heads, begun = self._heads, self._heads.begun
        try:
            raw = heads.next_head(data)
            if raw is None:
                if not (begun or self._fresh):  # the first head has the time that its first byte had
                    self.deadline = self._front.deadlines.now + self._front.limits.head_seconds
                return b""
            leftover = heads.take_leftover()
            request = self._front.heads.read_on_connection(raw)
        except HeadError as error:
            self._refuse(Door.GATEWAY, outcome_of_head_error(error), str(error), close=True)
            return b""
        if isinstance(request, ForwardedRequest):
            self._begin(request, followed=bool(leftover))
        elif isinstance(request, LinkAttempt):
            # The link may take the transport over at once, and with it what came behind the request.
            self._flow.held, leftover = leftover, b""
            self._state = _LINKING
            self.deadline = NEVER
            self._port.links.begin(self, request.head, self._transport)
            if self.linking:  # the answer comes later, so the credential is good
                self._port.proved(self)
        elif isinstance(request, ReadinessQuestion):
            self._tell_readiness(head_only=request.head_only)
        else:
            self._refuse(request.door, request.outcome, request.message, close=True)
        return leftover

    def _begin(self, request: ForwardedRequest, *, followed: bool = False) -> None:
        """Asks admission, and begins the call or refuses it; `followed` says that more came behind the request."""
        front = self._front
        grant = front.decide(request)
        if isinstance(grant, Refusal):
            self._refuse_call(request, grant, followed)
            return
        self._refusals = 0
        if self._strange:
            self._strange = False
            self._port.proved(self)
        self._exchange = exchange = Exchange(front, self, request, grant)
        now = front.deadlines.now
        if request.has_content:
            self._state = _CONTENT
            self._content = RequestContent(request, turn_chunks=TURN_CHUNKS)
            self.deadline = now + RATE_INTERVAL_SECONDS
        else:
            self._state = _BUSY
            self.deadline = now + front.listener_seconds
        exchange.open()

    def _take_content(self, data: bytes) -> None:
        content, exchange = self._content, self._exchange
        if content is None or exchange is None:
            return
        if content.pass_on(data, exchange) and self._state is _CONTENT:
            self._content = None
            self._state = _BUSY
            self.deadline = self._front.deadlines.now + self._front.listener_seconds
            exchange.end_content(content.trailers)
            if content.leftover:
                self._flow.hold(bytes(content.leftover))
        elif content.leftover and self._state is _CONTENT:
            self._flow.hold(bytes(content.leftover))
            self._front.call_soon(self._take_rest)
        self._heed(exchange, len(data))

    def _take_rest(self) -> None:
        """Takes in more of the chunks that were too many for one turn of the loop."""
        if self._state is not _CONTENT:
            return
        self._take_content(self._flow.take_held())
        if self._exchange is not None and not self._exchange.congested:
            self._flow.read_on()

    def _pass_raw(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.send_raw(data)
            self._heed(exchange, len(data))

    def _heed(self, exchange: Exchange, size: int) -> None:
        """Stops reading while nothing more is to come; `size` bytes have just come."""
        if exchange.congested and (self._state is _CONTENT or self._state is _RAW):
            self._flow.stop_reading(size)

    def _await_request(self) -> None:
        """On to the next request; a sender that does not take its answers stays BUSY, lest they pile up."""
        flow = self._flow
        if flow.congested:
            self.deadline = NEVER
        elif self.closing:
            self._finish()
        else:
            self._state = _READY
            self._fresh = False
            self.deadline = self._front.deadlines.now + self._front.idle_seconds
            if flow.held:
                self._take(flow.take_held())
            if not flow.reading:  # stopped for what is held, or for content that was to go on later
                flow.read_on()

    # What an exchange asks for.

    @property
    def congested(self) -> bool:
        """Whether the sender does not take what is written."""
        return self._flow.congested

    def deliver(self, data: Chunk) -> None:
        """Sends bytes of the response."""
        self._flow.write(data)

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        """Sends bytes of the response that lie in several pieces."""
        self._flow.write_pieces(pieces)

    def call_ended(self, *, keep_alive: bool) -> None:
        """The response was sent to its end: on to the next request, or the end of the connection."""
        self._exchange = None
        self._flow.write_out()
        self._flow.call_over()
        if self._state is _BUSY and keep_alive and not self.closing:
            self._await_request()
        else:
            self._finish()

    def request_passed(self) -> None:
        """What came has gone to the node: none of it was counted here."""

    def request_taken(self) -> None:
        """More may come: the node has room, and it is the call's turn."""
        self._flow.read_on()

    def became_raw(self) -> None:
        """From here on bytes pass as they are; those that came early are the first."""
        self._state = _RAW
        self.deadline = NEVER
        held = self._flow.take_held()
        if held:
            self._pass_raw(held)
        if self._exchange is not None and not self._exchange.congested:
            self._flow.read_on()

    def raw_ended(self) -> None:
        """The node sends no more; with TLS that cannot be said but by closing, once all is written."""
        self._finished = True
        if self._exchange is not None:
            self._exchange.end_raw()
        self._close()

    # Answers of the relay's own.

    def _refuse_call(self, request: ForwardedRequest, refusal: Refusal, followed: bool) -> None:
        """Answers a call that is not admitted; one who does not wait for the answer, or never learns, must reconnect.

        Else a stranger could keep the relay busy with refusals, at no cost to himself.
        """
        if refusal.outcome not in RETRY_AFTER_SECONDS:
            self._refusals += 1
        close = followed or self._refusals >= MAX_REFUSALS or request.has_content or not request.keep_alive
        self._state = _BUSY
        self._refuse(request.door, refusal.outcome, refusal.message, close=close, head_only=request.method == b"HEAD")

    # Links.

    @property
    def linking(self) -> bool:
        """Whether the decision on a link is still wanted."""
        return self._state is _LINKING

    def release(self) -> bytes:
        """Lets go of the transport, which a link takes over; returns the bytes that came behind the request."""
        self._state = _ENDING
        self.deadline = NEVER
        self._port.forget(self)
        held = self._flow.part()
        self._flow.read_on()
        return held
