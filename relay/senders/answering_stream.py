"""What a sender is sent on a stream of its link, and how the stream ends.

Theory of operation. `SenderStream` takes the request in; here is the way back. What the sender gives no credit for
waits, for as long as a `WriteStall` lets it. An answer of the relay's takes the place of a response, and behind either
the stream ends: FIN follows what waits, and the sender has a while to end its own side. A stream that cannot be ended
in good order is reset. It has one deadline at a time, of which the state says what it is for.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.bounds.deadlines import NEVER, RATE_INTERVAL_SECONDS
from relay.calls.content_rest import ContentRest
from relay.calls.credited_stream import CreditedStream
from relay.calls.exchange import LINGER_SECONDS, Exchange
from relay.calls.request_content import RequestContent, keeps_time
from relay.doors.entry import Door
from relay.senders.own_answers import own_answer
from relay.senders.write_stall import WriteStall
from trunkline.channel.bodies import Chunk
from trunkline.channel.link import LinkStream
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor


class State(Enum):
    """What the stream's next bytes are."""

    HEAD = auto()
    CONTENT = auto()
    BUSY = auto()
    RAW = auto()
    DONE = auto()


_HEAD: Final = State.HEAD
_CONTENT: Final = State.CONTENT
_BUSY: Final = State.BUSY
_DONE: Final = State.DONE


class AnsweringStream(CreditedStream):
    """The part of a sender's stream that sends and ends. `SenderStream` adds the rest.

    Attributes:
        deadline: when something is due, by the loop's clock.
    """

    __slots__ = ("_content", "_exchange", "_front", "_rest", "_stall", "_state", "deadline")

    closing: Final = False

    def __init__(self, front: FrontDoor, stream: LinkStream) -> None:
        CreditedStream.__init__(self)
        self._stream = stream
        self._front = front
        self._state = _HEAD
        self._exchange: Exchange | None = None
        self._content: RequestContent | None = None
        self._rest: ContentRest | None = None
        self._stall: WriteStall | None = None
        self.deadline = front.deadlines.now + front.limits.head_seconds
        front.deadlines.watch(self)

    # The response.

    def deliver(self, data: Chunk) -> None:
        """Sends bytes of the response."""
        self._send(data)
        if self._waiting is not None and self._stall is None:
            self._stall = WriteStall(self, self._front, self._front.limits.stream_stall_seconds)

    def deliver_pieces(self, pieces: list[Chunk]) -> None:
        """Sends bytes of the response that lie in several pieces."""
        for piece in pieces:
            self.deliver(piece)

    def _all_sent(self) -> None:
        self._end_stall()
        if self._exchange is not None:
            self._exchange.sender_ready()
        elif self._state is _DONE:
            self._await_end()

    def raw_ended(self) -> None:
        """The node sends no more raw bytes; the other direction goes on."""
        self._end()

    # Answers.

    def call_refused(self, outcome: Outcome, message: str) -> None:
        """Nothing of a response was sent: the relay answers."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            head_only = exchange.request.method == b"HEAD"
            self._refuse(outcome, message, request_id=exchange.request_id, head_only=head_only)

    def _refuse(
        self, outcome: Outcome, message: str, *, request_id: str | None = None, head_only: bool = False
    ) -> None:
        """Answers, which ends the stream."""
        self.deliver(
            own_answer(self._front, Door.LINK, outcome, message, close=True, request_id=request_id, head_only=head_only)
        )
        self._finish()

    # Deadlines.

    def deadline_reached(self, now: float) -> None:
        """The head did not come, the listener gave no sign, or the stream was never ended."""
        self.deadline = NEVER
        if self._state is _HEAD:
            self._front.deadline_passed("head")
            self._refuse(Outcome.REQUEST_TIMEOUT, "the request's head did not come in time")
        elif self._exchange is None:
            self._front.deadlines.forget(self)
            self._reset()
        elif self._state is _CONTENT or self._state is _BUSY:
            exchange = self._exchange
            if keeps_time(self._front, exchange, self._content, now, held_up=exchange.congested):
                self.deadline = now + RATE_INTERVAL_SECONDS

    # What a `WriteStall` asks for.

    def get_write_buffer_size(self) -> int:
        """Bytes that wait for the sender's credit."""
        return sum(map(len, self._waiting or ()))

    def abort(self) -> None:
        """Cut the stream, and the call with it."""
        exchange, self._exchange = self._exchange, None
        self._state, self._rest = _DONE, None
        self._front.deadlines.forget(self)
        self._reset()
        if exchange is not None:
            exchange.sender_lost()

    # The end.

    def call_ended(self, *, keep_alive: bool) -> None:
        """The response was sent to its end, and so is the stream."""
        self._finish()

    def call_broken(self) -> None:
        """The response cannot be completed, which the sender sees from the reset."""
        self._exchange = None
        self._state = _DONE
        self._front.deadlines.forget(self)
        self._reset()

    def _finish(self) -> None:
        """Ends the stream, once the sender has taken what waits; one that takes nothing is cut by its `WriteStall`."""
        self._exchange = None
        self._state = _DONE
        self.deadline = NEVER
        self._end()
        if self._waiting is None:
            self._await_end()
        elif self._stall is not None:
            self._stall.hold()

    def _await_end(self) -> None:
        """Gives the sender a while to end its side."""
        if self._stream is not None and self._stream.readable:
            self.deadline = self._front.deadlines.now + LINGER_SECONDS
        else:
            self._front.deadlines.forget(self)

    def _reset(self) -> None:
        self._end_stall()
        super()._reset()

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.end()
            self._stall = None
