"""A sender's TLS connection at the relay's port: HTTP/1.1, one call after the other, or the beginning of a link.

Theory of operation. A connection is READY for a head; then a call is in progress: its request's CONTENT comes in, and
behind that the connection is BUSY until the response has ended, when it is READY again or closes. After a 2xx to
CONNECT or a 101 it is RAW. A request for `/v1/link` makes it LINKING until the link takes the transport over.

    READY ──▶ CONTENT ──▶ BUSY ──▶ READY         every state ──▶ LINGERING ──▶ CLOSED
      ├──▶ BUSY ──▶ RAW
      └──▶ LINKING ──▶ the link's

Calls never overlap: what comes while one is BUSY waits, and above `MAX_HELD_BYTES` reading stops. A connection stays
BUSY until the sender takes its answers, and FLUSHING stands before CLOSED until it has taken the last, for a transport
that closes gives it a few seconds only. Where it is not sure
that what waits is a request (behind an upgrade or CONNECT that was refused, or content that nobody took) it is thrown
away and the connection closed; LINGERING gives the sender time to read the answer before the connection goes.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, cast

from relay.credentials import Refusal
from relay.deadlines import NEVER, RATE_INTERVAL_SECONDS
from relay.doors import Door, LinkAttempt
from relay.exchange import Exchange
from relay.forwarding import ForwardedRequest
from relay.sender_output import SenderOutput
from relay.write_stall import WriteStall
from trunkline.channel.bodies import BodyError, BodyReader, Chunk
from trunkline.channel.fields import HEAD_END, MAX_HEAD_BYTES
from trunkline.channel.flushing import JOIN_BYTES
from trunkline.channel.heads import HeadBuffer, HeadError
from trunkline.channel.outcomes import Outcome, outcome_of_head_error, relay_response

if TYPE_CHECKING:
    from relay.front_door import FrontDoor
    from relay.head_reader import HeadReader
    from relay.sender_port import SenderPort

MAX_HELD_BYTES: Final = 64 * 1024
MAX_OVERRUN_BYTES: Final = 1024 * 1024
LINGER_SECONDS: Final = 2.0
MAX_REFUSALS: Final = 32
"""Calls refused in a row, other than for a while only, after which a connection is closed."""
DRAINING_RETRY_AFTER_SECONDS: Final = 1
QUOTA_RETRY_AFTER_SECONDS: Final = 1
OVERLOADED_RETRY_AFTER_SECONDS: Final = 2
_RETRY_AFTER: Final = {
    Outcome.DRAINING: DRAINING_RETRY_AFTER_SECONDS,
    Outcome.OVERLOADED: OVERLOADED_RETRY_AFTER_SECONDS,
    Outcome.OVER_QUOTA: QUOTA_RETRY_AFTER_SECONDS,
}


class State(Enum):
    """What the connection's next bytes are."""

    READY = auto()
    CONTENT = auto()
    BUSY = auto()
    RAW = auto()
    LINKING = auto()
    LINGERING = auto()
    FLUSHING = auto()
    CLOSED = auto()


_READY: Final = State.READY
_CONTENT: Final = State.CONTENT
_BUSY: Final = State.BUSY
_RAW: Final = State.RAW
_LINKING: Final = State.LINKING
_LINGERING: Final = State.LINGERING
_FLUSHING: Final = State.FLUSHING
_CLOSED: Final = State.CLOSED


class SenderConnection:
    """The protocol of one connection, and the sender's side of its calls.

    It is an asyncio.Protocol in all but its bases, since a class that is compiled cannot derive from one that is not.
    `congested` says that the sender does not take what is written, `closing` that the next response is the last.
    """

    __slots__ = (
        "_buffer", "_content_bytes", "_exchange", "_finished", "_fresh", "_front", "_heads", "_held", "_last",
        "_output", "_overrun_bytes", "_port", "_reader", "_reading", "_refusals", "_stall", "_state", "_transport",
        "closing", "congested", "deadline",
    )  # fmt: skip

    _transport: asyncio.Transport

    def __init__(self, port: SenderPort) -> None:
        self._port = port
        self._front: FrontDoor = port.front
        self._heads: HeadReader = port.front.heads
        self._state = _READY
        self._buffer: HeadBuffer | None = None
        self._exchange: Exchange | None = None
        self._reader: BodyReader | None = None
        self._content_bytes = 0
        self._held = b""
        self._reading = True
        self._last: ForwardedRequest | None = None
        self._overrun_bytes = 0
        self._finished = False
        self._fresh = True
        self._refusals = 0
        self._stall: WriteStall | None = None
        self._output: SenderOutput | None = None  # most connections never have large output
        self.closing = port.closing
        self.congested = False
        self.deadline = NEVER

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up; the first request is awaited."""
        # Transports of uvloop and aiofastnet have its methods, and are not derived from it.
        self._transport = cast(asyncio.Transport, transport)
        self._port.admit(self)
        self.deadline = self._front.deadlines.now + self._front.limits.head_seconds

    def data_received(self, data: bytes) -> None:
        """Bytes of the sender."""
        state = self._state
        if state is _READY:
            request = self._known(data) if self._buffer is None else None
            if request is not None:
                self._begin(request)
            else:
                self._take(data)
        elif state is _CONTENT:
            self._take_content(data)
        elif state is _RAW:
            self._pass_raw(data)
        elif state is _BUSY or state is _LINKING:
            self._hold(data)

    def _known(self, data: bytes) -> ForwardedRequest | None:
        """The request that the bytes are, if they are one that came before, or like one, most often the last here."""
        last = self._last
        if last is not None and last.raw == data:
            return last
        request = self._heads.by_connection.find(data, last)
        if request is not None:
            self._last = request if request.kin is None else request.kin
        return request

    def eof_received(self) -> None:
        """The sender has closed in good order; TLS has no half-close here, so the connection ends."""
        self._finished = True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        exchange, self._exchange = self._exchange, None
        self._state = _CLOSED
        self._held = b""
        if self._output is not None:
            self._output.drop()
        self._flow_again()
        self._port.forget(self)
        if exchange is not None:
            if self._finished:
                exchange.sender_finished()
            else:
                exchange.sender_lost()

    def pause_writing(self) -> None:
        """The sender does not take what was written."""
        self.congested = True
        limits = self._front.limits
        seconds = limits.stream_stall_seconds if self._state is _RAW else limits.write_stall_seconds
        self._stall = WriteStall(self._transport, self._front, seconds)

    def resume_writing(self) -> None:
        """It does again."""
        self._flow_again()
        if self._exchange is not None:
            self._exchange.sender_ready()
        elif self._state is _BUSY:
            self._await_request()
        elif self._state is _FLUSHING:
            self._close()

    def _flow_again(self) -> None:
        self.congested = False
        if self._stall is not None:
            self._stall.end()
            self._stall = None

    # Requests.

    def _take(self, data: bytes) -> None:
        """Takes heads from the bytes until a call is in progress or more is needed."""
        while data and self._state is _READY:
            data = self._take_head(data)
        if not data:
            return
        if self._state is _CONTENT:
            self._take_content(data)
        elif self._state is _BUSY or self._state is _LINKING:
            self._hold(data)

    def _take_head(self, data: bytes) -> bytes:
        """Reads a head and begins its call; returns the bytes behind it."""
        try:
            raw, leftover = self._next_head(data)
            if raw is None:
                return b""
            request = self._heads.read_on_connection(raw)
        except HeadError as error:
            self._refuse(Door.GATEWAY, outcome_of_head_error(error), str(error), close=True)
            return b""
        if isinstance(request, ForwardedRequest):
            self._begin(request, followed=bool(leftover))
        elif isinstance(request, LinkAttempt):
            # The link may take the transport over at once, and with it what came behind the request.
            self._held, leftover = leftover, b""
            self._begin_link(request)
        else:
            self._refuse(request.door, request.outcome, request.message, close=True)
        return leftover

    def _next_head(self, data: bytes) -> tuple[bytes | None, bytes]:
        """A whole head and what is behind it; None while it is incomplete. Raises HeadError."""
        buffer = self._buffer
        if buffer is None:
            end = data.find(HEAD_END, 0, MAX_HEAD_BYTES) + len(HEAD_END)
            if end >= len(HEAD_END):
                return data[:end], data[end:]
            buffer = self._buffer = HeadBuffer()
            if not self._fresh:  # the first head has the time that its first byte had
                self.deadline = self._front.deadlines.now + self._front.limits.head_seconds
        raw = buffer.receive_data(data)
        if raw is not None:
            self._buffer = None
        return raw, buffer.leftover

    def _begin(self, request: ForwardedRequest, *, followed: bool = False) -> None:
        """Asks admission, and begins the call or refuses it; `followed` says that more came behind the request."""
        front = self._front
        grant = front.decide(request)
        if isinstance(grant, Refusal):
            self._refuse_call(request, grant, followed)
            return
        self._refusals = 0
        self._exchange = exchange = Exchange(front, self, request, grant)
        now = front.deadlines.now
        if request.has_content:
            self._state = _CONTENT
            self._reader = BodyReader(request.framing, request.content_length)
            self._content_bytes = 0
            self.deadline = now + RATE_INTERVAL_SECONDS
        else:
            self._state = _BUSY
            self.deadline = now + front.listener_seconds
        exchange.open()

    def _take_content(self, data: bytes) -> None:
        reader, exchange = self._reader, self._exchange
        if reader is None or exchange is None:
            return
        self._content_bytes += len(data)
        try:
            piece = reader.receive_data(data)
        except BodyError as error:
            exchange.fail(Outcome.BAD_REQUEST, str(error))
            return
        exchange.send_content(piece.chunks)
        if piece.ended and self._state is _CONTENT:
            self._reader = None
            self._state = _BUSY
            self.deadline = self._front.deadlines.now + self._front.listener_seconds
            exchange.end_content(reader.trailers)
            if piece.leftover:
                self._hold(bytes(piece.leftover))
        self._heed(exchange, len(data))

    def _heed(self, exchange: Exchange, size: int) -> None:
        """Stops reading while the node has no room; `size` bytes have just come."""
        if exchange.congested and (self._state is _CONTENT or self._state is _RAW):
            self._stop_reading(size)

    def _hold(self, data: bytes) -> None:
        """Keeps what came while a call is in progress."""
        self._held += data
        if len(self._held) > MAX_HELD_BYTES:
            self._stop_reading(len(data))

    def _stop_reading(self, size: int) -> None:
        """Pauses once the transport has delivered what it holds: paused in between, aiofastnet loses a close_notify.

        What it may still deliver is bounded, at last by pausing in between all the same.
        """
        if self._reading:
            self._reading = False
            self._overrun_bytes = 0
            self._front.call_soon(self._pause)
            return
        self._overrun_bytes += size
        if self._overrun_bytes > MAX_OVERRUN_BYTES:
            self._pause()

    def _pause(self) -> None:
        if not self._reading and self._state is not _CLOSED:
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self._reading and len(self._held) <= MAX_HELD_BYTES:
            self._reading = True
            self._transport.resume_reading()

    # What an exchange asks for.

    def deliver(self, data: Chunk) -> None:
        """Sends bytes of the response."""
        output = self._output
        if output is None:
            if len(data) < JOIN_BYTES:
                self._transport.write(data)
                return
            output = self._output = SenderOutput(self._transport, self._front.call_soon)
        output.write(data)

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        """Sends bytes of the response that lie in several pieces."""
        self._write_out()
        self._transport.writelines(pieces)

    def _write_out(self) -> None:
        """Writes what waits for the end of the loop's turn, so that something else may follow it."""
        if self._output is not None:
            self._output.flush()

    def call_ended(self, *, keep_alive: bool) -> None:
        """The response was sent to its end: on to the next request, or the end of the connection."""
        self._exchange = None
        self._write_out()
        if self._state is _BUSY and keep_alive and not self.closing:
            self._await_request()
        else:
            self._finish()

    def call_refused(self, outcome: Outcome, message: str) -> None:
        """Nothing of a response was sent: the relay answers."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None and self._state is not _CLOSED:
            request = exchange.request
            close = self._state is not _BUSY or not request.keep_alive
            self._refuse(request.door, outcome, message, close=close, request_id=exchange.request_id,
                         head_only=request.method == b"HEAD")  # fmt: skip

    def call_broken(self) -> None:
        """The response cannot be completed, which the sender sees from the connection's end without a goodbye."""
        self._exchange = None
        self._state = _CLOSED
        self._write_out()
        self._transport.abort()

    def request_taken(self) -> None:
        """The node has room for more."""
        self._read_on()

    def became_raw(self) -> None:
        """From here on bytes pass as they are; those that came early are the first."""
        self._state = _RAW
        self.deadline = NEVER
        held, self._held = self._held, b""
        if held:
            self._pass_raw(held)
        if self._exchange is not None and not self._exchange.congested:
            self._read_on()

    def raw_ended(self) -> None:
        """The node sends no more; with TLS that cannot be said but by closing, once all is written."""
        self._finished = True
        self._write_out()
        if self._exchange is not None:
            self._exchange.end_raw()
        self._close()

    def _pass_raw(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is not None:
            exchange.send_raw(data)
            self._heed(exchange, len(data))

    # Answers of the relay's own.

    def _refuse_call(self, request: ForwardedRequest, refusal: Refusal, followed: bool) -> None:
        """Answers a call that is not admitted; one who does not wait for the answer, or never learns, must reconnect.

        Else a stranger could keep the relay busy with refusals, at no cost to himself.
        """
        if refusal.outcome not in _RETRY_AFTER:
            self._refusals += 1
        close = followed or self._refusals >= MAX_REFUSALS or request.has_content or not request.keep_alive
        self._state = _BUSY
        self._refuse(request.door, refusal.outcome, refusal.message, close=close, head_only=request.method == b"HEAD")

    def _refuse(
        self,
        door: Door,
        outcome: Outcome,
        message: str,
        *,
        close: bool,
        request_id: str | None = None,
        head_only: bool = False,
    ) -> None:
        """Answers; then the next request, or, with `close`, the end of the connection."""
        if request_id is None:
            request_id = self._front.mint_request_id()
            self._front.refused(door, outcome)
        self._front.log_outcome(outcome, message, request_id, door)
        close = close or self.closing
        answer = relay_response(
            outcome,
            message,
            request_id=request_id,
            proxy_door=door is Door.PROXY,
            close=close,
            head_only=head_only,
            retry_after_seconds=_RETRY_AFTER.get(outcome),
        )
        self._transport.write(answer)
        if close:
            self._linger()
        else:
            self._await_request()

    def _await_request(self) -> None:
        """On to the next request; a sender that does not take its answers stays BUSY, lest they pile up."""
        if self.congested:
            self.deadline = NEVER
        elif self.closing:
            self._finish()
        else:
            self._state = _READY
            self._fresh = False
            self.deadline = self._front.deadlines.now + self._front.idle_seconds
            if self._held:
                self._take_held()

    def _take_held(self) -> None:
        held, self._held = self._held, b""
        self._take(held)
        self._read_on()

    # Links.

    def _begin_link(self, attempt: LinkAttempt) -> None:
        self._state = _LINKING
        self.deadline = NEVER
        self._port.links.begin(self, attempt.head, self._transport)

    @property
    def linking(self) -> bool:
        """Whether the decision on a link is still wanted."""
        return self._state is _LINKING

    def refuse_link(self, outcome: Outcome, message: str) -> None:
        """Answers a request for a link."""
        self._refuse(Door.LINK, outcome, message, close=True)

    def release(self) -> bytes:
        """Lets go of the transport, which a link takes over; returns the bytes that came behind the request."""
        self._state = _CLOSED
        self.deadline = NEVER
        self._port.forget(self)
        self._flow_again()
        held, self._held = self._held, b""
        self._read_on()
        return held

    # Deadlines and the end.

    def deadline_reached(self, now: float) -> None:
        """Something took too long."""
        self.deadline = NEVER
        state = self._state
        if state is _READY:
            self._late_head()
        elif state is _CONTENT or state is _BUSY:
            self._late_call(now)
        elif state is _LINGERING:
            self._close()
        elif state is _CLOSED:
            self._transport.abort()

    def _late_head(self) -> None:
        if self._buffer is None:
            self._front.deadline_passed("idle")
            self._close()
        else:
            self._front.deadline_passed("head")
            message = "the request's head did not come in time"
            self._refuse(Door.GATEWAY, Outcome.REQUEST_TIMEOUT, message, close=True)

    def _late_call(self, now: float) -> None:
        """Of a call, only the listener's first sign and the rate of a request's content have a deadline."""
        exchange = self._exchange
        if exchange is None:
            return
        if exchange.silent(now) if self._state is _CONTENT else not exchange.accepted:
            self._front.deadline_passed("listener")
            exchange.fail(Outcome.LISTENER_SILENT, "the node did not take the call in time")
        elif self._state is _CONTENT:
            if self._too_slow(exchange):
                self._front.deadline_passed("body_rate")
                exchange.fail(Outcome.REQUEST_TIMEOUT, "the request's content comes too slowly")
            else:
                self._content_bytes = 0
                self.deadline = now + RATE_INTERVAL_SECONDS

    def _too_slow(self, exchange: Exchange) -> bool:
        """Whether the sender, and nobody else, holds up its content; once a response has begun it may take its time."""
        if not self._reading or exchange.response_begun or exchange.awaits_continue:
            return False
        return self._content_bytes < self._front.limits.body_min_bytes_per_second * RATE_INTERVAL_SECONDS

    def drain(self) -> None:
        """The relay is going: an idle connection closes now, others behind the response that they wait for."""
        self.closing = True
        if self._state is _READY and self._buffer is None:
            self._close()

    def abort(self) -> None:
        """Ends at once."""
        self._transport.abort()

    def _finish(self) -> None:
        """Closes; with a pause where bytes of the sender are unread, since closing on them would destroy the answer."""
        if self._state is _CONTENT or self._held or not self._reading:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        if self._state is _CLOSED or self._state is _FLUSHING:
            return
        self._state = _LINGERING
        self._held = b""
        self._buffer = None
        self.deadline = self._front.deadlines.now + LINGER_SECONDS
        self._read_on()

    def _close(self) -> None:
        """Closes, once the sender has taken what was written; one that takes nothing is cut by its `WriteStall`."""
        self._state = _FLUSHING
        self._held = b""
        self.deadline = NEVER
        self._read_on()  # a transport that does not read would wait in vain for the sender's own goodbye
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
        if not self.congested:
            self._state = _CLOSED
            self.deadline = self._front.deadlines.now + self._front.limits.write_stall_seconds
            self._transport.close()
