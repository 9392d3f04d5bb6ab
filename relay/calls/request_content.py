"""The content of a request as its sender sends it: read under its framing, passed on, and held to a rate.

Theory of operation. Any split of the bytes passes the same content to the exchange. Content that breaks its framing
fails the call, and nothing of the piece that broke it is passed on. What comes behind the end is the caller's to
judge: the next request on a connection, and nothing good on a stream.

A call has two deadlines, whatever door it came by: its listener has to take the stream in time, and its content has to
come at a least rate, counted over `RATE_INTERVAL_SECONDS`. The rate is the sender's only: it is not asked for while
somebody else holds up the content, nor from the response's beginning on, nor while the sender may wait for a 100.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.bounds.deadlines import RATE_INTERVAL_SECONDS
from trunkline.channel.bodies import BodyError, BodyReader, Chunk
from trunkline.channel.fields import Field
from trunkline.channel.frames import UNBOUNDED
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.calls.exchange import Exchange
    from relay.doors.forwarding import ForwardedRequest
    from relay.doors.front_door import FrontDoor


class RequestContent:
    """The content of one request, from behind its head to its end.

    Attributes:
        leftover: what came behind the end; before the end, what came in too many chunks, to be passed on again.
    """

    __slots__ = ("_came_bytes", "_reader", "leftover")

    def __init__(self, request: ForwardedRequest, *, turn_chunks: int = UNBOUNDED) -> None:
        """Begin behind the request's head; `turn_chunks` bounds what is passed on at once."""
        self._reader = BodyReader(request.framing, request.content_length, turn_chunks=turn_chunks)
        self._came_bytes = 0
        self.leftover: Chunk = b""

    @property
    def trailers(self) -> list[Field]:
        """The trailers, once the content has ended."""
        return self._reader.trailers

    def pass_on(self, data: Chunk, exchange: Exchange) -> bool:
        """Passes content to the exchange; returns whether it came to its end."""
        self._came_bytes += len(data)
        self.leftover = b""
        try:
            piece = self._reader.receive_data(data)
        except BodyError as error:
            exchange.fail(Outcome.BAD_REQUEST, str(error))
            return False
        exchange.send_content(piece.chunks)
        self.leftover = piece.leftover
        if not piece.ended:
            self._came_bytes -= len(piece.leftover)
        return piece.ended

    def take_came_bytes(self) -> int:
        """How many bytes came since this was last asked."""
        came, self._came_bytes = self._came_bytes, 0
        return came


def keeps_time(
    front: FrontDoor, exchange: Exchange, content: RequestContent | None, now: float, *, held_up: bool
) -> bool:
    """Looks at a call whose deadline has come, and fails it where it is late; returns whether to look again.

    `content` is what is still to come of the request, and `held_up` says that it is not the sender who keeps it back.
    Nor is it where the call has waited for its quota in the meantime.
    """
    if exchange.silent(now) if content is not None else not exchange.accepted:
        front.deadline_passed("listener")
        exchange.fail(Outcome.LISTENER_SILENT, "the node did not take the call in time")
        return False
    if content is None:
        return False
    least_bytes = front.limits.body_min_bytes_per_second * RATE_INTERVAL_SECONDS
    too_slow = content.take_came_bytes() < least_bytes
    held_up = exchange.take_was_paced() or held_up
    if too_slow and not (held_up or exchange.response_begun or exchange.awaits_continue):
        front.deadline_passed("body_rate")
        exchange.fail(Outcome.REQUEST_TIMEOUT, "the request's content comes too slowly")
        return False
    return True
