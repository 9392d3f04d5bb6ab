"""The heads at the beginning of a node's response: interim ones that are passed on, and the final one.

Theory of operation. An exchange takes a final head that came before, and comes in one piece, for known; all others are
read here. Each head is parsed strictly. One of an interim response (RFC 9110 section 15.2) goes to the sender at once,
in the relay's own form, or nowhere; the first other one is the response's, and ends the reading. There may be
`MAX_INTERIM_RESPONSES`, and each head is bounded, so that a node that never comes to its response is refused. A 101 is
a final response: raw bytes follow it.

On a connection no interim response but 100 goes on, whatever RFC 9110 asks of proxies. Python's http.client, and all
that is built upon it, takes any other for the final one, and what comes behind it for the answer to its next request:
a node could so answer for others, by 103 and a pause. On a link each call has a stream of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from relay.calls.sender_side import SenderSide
from relay.doors.entry import Door
from relay.doors.forwarding import ForwardedRequest, ForwardedResponse, forward_interim
from relay.doors.next_head import NextHead
from trunkline.channel.heads import HeadError, ResponseHead

if TYPE_CHECKING:
    from relay.doors.front_door import FrontDoor

MAX_INTERIM_RESPONSES: Final = 16
_CONTINUE: Final = 100


class ResponseHeads(NextHead):
    """Reads the heads of one response.

    Attributes:
        interims: how many interim responses there were.
        continued: whether one was a 100.
    """

    __slots__ = ("_front", "_request", "_sender", "continued", "interims")

    def __init__(self, front: FrontDoor, request: ForwardedRequest, sender: SenderSide) -> None:
        NextHead.__init__(self)
        self._front = front
        self._request = request
        self._sender = sender
        self.interims = 0
        self.continued = False

    def receive_data(self, data: bytes, *, request_ended: bool) -> ForwardedResponse | None:
        """Takes bytes; returns the final response once its head is whole, with `take_leftover` for what came behind it.

        With a response that comes before the request has ended, the sender's connection ends. Raises HeadError.
        """
        while data:
            raw = self.next_head(data)
            if raw is None:
                return None
            response = self._read(raw, request_ended)
            if response is not None:
                return response
            data = self.take_leftover()
        return None

    def _read(self, raw: bytes, request_ended: bool) -> ForwardedResponse | None:
        """Parses a head; None for an interim one, which is passed on where it may be."""
        request, front = self._request, self._front
        head = front.heads.parse_response(raw, request)
        if head.status < 200 and head.status != 101:
            self._interim(head)
            return None
        close = self._sender.closing or not request_ended
        response = ForwardedResponse(head, request, close=close, date=front.deadlines.date)
        if not close:
            front.heads.keep_response(raw, request, response)
        return response

    def _interim(self, head: ResponseHead) -> None:
        request = self._request
        self.interims += 1
        if self.interims > MAX_INTERIM_RESPONSES:
            raise HeadError("too_many_interim_responses", "too many interim responses")
        continues = head.status == _CONTINUE
        self.continued = self.continued or continues
        if request.minor_version == 1 and (continues or request.door is Door.LINK):
            self._sender.deliver(forward_interim(head, request))
