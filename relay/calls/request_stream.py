"""The request's direction of a call: its stream at the node's link, and what the sender sends on it.

Theory of operation. The stream is opened by the grant that admission gave; while the link has too many that the node
has not taken yet, the call waits for its turn to open. The canonical head goes first, with the relay's own proof in
place of the sender's where the grant says so. Content follows in the request's own framing, or raw bytes, as the
node's credit allows; what has no credit waits, and the sender's side stops reading while `congested`.

No FIN goes to the node before the response has ended, except as half-close of raw bytes: a handler's context ends with
it. So the stream is let go of only when the response is complete: ended where all of the request was sent, and cut
where either side had more to send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from relay.calls.paced_stream import PacedStream
from relay.doors.forwarding import ForwardedRequest, forward_request_trailers
from trunkline.channel.bodies import (
    LARGE_CHUNK_BYTES,
    Chunk,
    encode_chunk,
    encode_last_chunk,
    join_chunks,
    large_chunk,
)
from trunkline.channel.errors import ChannelError, ErrorCode
from trunkline.channel.fields import Field, Framing
from trunkline.channel.outcomes import Outcome

if TYPE_CHECKING:
    from relay.admission.grants import Grant
    from relay.doors.front_door import FrontDoor
    from relay.links.reached import Caller
    from relay.trust.credentials import Destination

TOO_MANY_CALLS: Final = "the node has as many calls open as its link allows this sender"
LEAVING: Final = "the node is just leaving this relay"
_CHUNKED: Final = Framing.CHUNKED


class RequestStream(PacedStream):
    """The stream of one call, as its request goes out on it. `Exchange` adds the response.

    Attributes:
        request: the request.
        request_ended: whether all of the request was handed to the stream.
    """

    __slots__ = ("_opens_later", "_request_id", "request", "request_ended")

    def __init__(self, front: FrontDoor, request: ForwardedRequest, grant: Grant) -> None:
        PacedStream.__init__(self, front, grant)
        self._opens_later = False
        self.request = request
        self.request_ended = not request.has_content
        self._request_id = front.mint_request_id()

    @property
    def request_id(self) -> str:
        """What both sides know the call by."""
        return self._request_id.decode("ascii")

    @property
    def destination(self) -> Destination:
        """What is called, as the sender named it."""
        return self._grant.destination

    @property
    def towards(self) -> tuple[str, str]:
        """The node that is called, which a workspace token does not name."""
        return self._grant.listener.node_id, self._grant.listener.workspace_id

    def open(self) -> None:
        """Opens the stream and sends the request's head; a failure is told to the sender's side."""
        grant = self._grant
        try:
            stream = self._stream = grant.listener.open(cast("Caller", self), grant.sender)
        except ChannelError as error:
            self._not_opened(error)
            return
        head = self.request.head(grant.assertion, self._request_id)
        if grant.prefix:
            head = grant.prefix + head
        if len(head) <= stream.send_window and stream.may_skip:
            stream.write(head)
            if self._waiting is not None:
                self._send_waiting()
        else:
            self._queue(head, first=True)

    def send_content(self, chunks: list[Chunk]) -> None:
        """Passes content of the request on, in the request's own framing."""
        content = join_chunks(chunks)
        size = len(content)
        if not size:
            return
        self._charge_sent(size)
        if self.request.framing is not _CHUNKED:
            self._send(content)
        elif size < LARGE_CHUNK_BYTES:
            self._send(encode_chunk(content))
        else:
            for piece in large_chunk(content):
                self._send(piece)

    def end_content(self, trailers: list[Field]) -> None:
        """The request's content is complete."""
        self.request_ended = True
        if self.request.framing is _CHUNKED:
            self._send(encode_last_chunk(forward_request_trailers(trailers)))

    def send_raw(self, data: Chunk) -> None:
        """Passes raw bytes on."""
        self._charge_sent(len(data))
        self._send(data)

    def fail(self, outcome: Outcome, message: str) -> None:
        """Ends the call with an outcome of the relay's."""
        raise NotImplementedError

    def _open_again(self) -> None:
        """There may be room for the stream now."""
        raise NotImplementedError

    def _not_opened(self, error: ChannelError) -> None:
        if error.code is ErrorCode.TOO_MANY_UNACKED:
            self._opens_later = True
            self._grant.listener.call_when_openable(self._open_again)
        elif error.code is ErrorCode.TOO_MANY_STREAMS:
            self.fail(Outcome.OVER_QUOTA, TOO_MANY_CALLS)
        else:
            self.fail(Outcome.NO_LISTENER, LEAVING)

    def _reset(self) -> None:
        if self._opens_later:
            self._grant.listener.call_no_more(self._open_again)
        super()._reset()

    def _let_go(self, *, late: bool) -> bool:
        """Ends the stream of a complete response; returns whether the node has still to end its side.

        It is cut where the node sent `late` bytes, or the sender's side has not come to an end of its own.
        """
        stream = self._stream
        if stream is None:
            return False
        if late or not (self.request_ended or self._ending) or self._waiting is not None:
            self._reset()
        elif stream.readable:
            self._end_sending()
            return True
        elif stream.writable:
            stream.end_late()
        return False
