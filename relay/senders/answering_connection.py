"""What the relay itself says and does on a sender's connection: its answers, its deadlines, its end.

Theory of operation. `SenderConnection` reads requests and passes calls on; here is what needs no call. An answer of the
relay's takes the place of a response: behind it the connection is ready for the next request, or ends. A connection
has one deadline at a time, of which the state says what it is for: a head, a sign of the listener, a rate of content,
a step of the end. It ends at once where nothing of the sender is unread, and with a pause where something is: closing
on unread bytes would destroy the answer that is on its way.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from relay.bounds.deadlines import NEVER, RATE_INTERVAL_SECONDS
from relay.calls.exchange import Exchange
from relay.calls.request_content import RequestContent, keeps_time
from relay.doors.entry import Door
from relay.doors.next_head import NextHead
from relay.senders.own_answers import own_answer, readiness_answer
from relay.senders.transport_flow import TransportFlow
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor


class State(Enum):
    """What the connection's next bytes are."""

    READY = auto()
    CONTENT = auto()
    BUSY = auto()
    RAW = auto()
    LINKING = auto()
    ENDING = auto()


_READY: Final = State.READY
_CONTENT: Final = State.CONTENT
_BUSY: Final = State.BUSY
_ENDING: Final = State.ENDING


class AnsweringConnection:
    """The part of a sender's connection that answers by itself. `SenderConnection` adds the rest.

    Attributes:
        closing: whether the next response is the last.
        deadline: when something is due, by the loop's clock.
    """

    __slots__ = ("_content", "_exchange", "_flow", "_front", "_heads", "_state", "_transport", "closing", "deadline")

    _transport: asyncio.Transport
    _flow: TransportFlow

    def __init__(self, front: FrontDoor, *, closing: bool) -> None:
        self._front = front
        self._state = _READY
        self._heads = NextHead()
        self._exchange: Exchange | None = None
        self._content: RequestContent | None = None
        self.closing = closing
        self.deadline = NEVER

    def _await_request(self) -> None:
        """On to the next request."""
        raise NotImplementedError

    # Answers.

    def call_refused(self, outcome: Outcome, message: str) -> None:
        """Nothing of a response was sent: the relay answers."""
        exchange, self._exchange = self._exchange, None
        self._flow.call_over()
        if exchange is not None and self._state is not _ENDING:
            request = exchange.request
            close = self._state is not _BUSY or not request.keep_alive
            self._refuse(request.door, outcome, message, close=close, request_id=exchange.request_id,
                         head_only=request.method == b"HEAD")  # fmt: skip

    def call_broken(self) -> None:
        """The response cannot be completed, which the sender sees from the connection's end without a goodbye."""
        self._exchange = None
        self._state = _ENDING
        self._flow.write_out()
        self._flow.abort()

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
        close = close or self.closing
        # Behind what the node sent before, none of which may be left for the next call.
        self._flow.write(
            own_answer(self._front, door, outcome, message, close=close, request_id=request_id, head_only=head_only)
        )
        self._flow.write_out()
        if close:
            self._linger()
        else:
            self._await_request()

    def _tell_readiness(self, *, head_only: bool) -> None:
        """Answers whoever asks whether the relay is ready, and ends the connection: a question costs a handshake."""
        self._flow.write(readiness_answer(self._front, head_only=head_only))
        self._flow.write_out()
        self._linger()

    def refuse_link(self, outcome: Outcome, message: str) -> None:
        """Answers a request for a link."""
        self._refuse(Door.LINK, outcome, message, close=True)

    # Deadlines.

    def deadline_reached(self, now: float) -> None:
        """Something took too long."""
        self.deadline = NEVER
        state = self._state
        if state is _READY:
            self._late_head()
        elif state is _CONTENT or state is _BUSY:
            exchange, flow = self._exchange, self._flow
            if exchange is not None and keeps_time(self._front, exchange, self._content, now, held_up=not flow.reading):
                self.deadline = now + RATE_INTERVAL_SECONDS
        elif state is _ENDING:
            self._flow.close()

    def _late_head(self) -> None:
        if self._heads.begun:
            self._front.deadline_passed("head")
            message = "the request's head did not come in time"
            self._refuse(Door.GATEWAY, Outcome.REQUEST_TIMEOUT, message, close=True)
        else:
            self._front.deadline_passed("idle")
            self._close()

    def drain(self) -> None:
        """The relay is going: an idle connection closes now, others behind the response that they wait for."""
        self.closing = True
        if self._state is _READY and not self._heads.begun:
            self._close()

    def abort(self) -> None:
        """Ends at once."""
        self._transport.abort()

    # The end.

    def _finish(self) -> None:
        """Closes; with a pause where bytes of the sender are unread, since closing on them would destroy the answer."""
        if self._state is _CONTENT or self._flow.held or not self._flow.reading:
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        if self._state is not _ENDING:
            self._state = _ENDING
            self._heads = NextHead()  # part of a head may be held
            self.deadline = self._flow.linger()

    def _close(self) -> None:
        self._state = _ENDING
        self.deadline = NEVER
        self._flow.close()
