"""The content of a node's response: out of the node's framing, and to the sender in the relay's own.

Theory of operation. Content whose length the head told passes as it comes, and is counted down. Content in chunks, or
up to the end of the stream, is taken out of its framing and put into that of the sender's connection: chunks, where
the sender knows them. Either ends exactly once, and says whether the node sent more behind the end (`late`), which
belongs to no call. The end of the node's stream is the end of content that is framed by it, and of no other.
"""

from typing import Final

from relay.calls.content_rest import TURN_CHUNKS
from relay.calls.sender_side import SenderSide
from relay.doors.entry import Door
from relay.doors.forwarding import ForwardedResponse, forward_trailers
from trunkline.channel.bodies import (
    LARGE_CHUNK_BYTES,
    BodyError,
    BodyReader,
    Chunk,
    encode_chunk,
    encode_last_chunk,
    join_chunks,
    large_chunk,
)
from trunkline.channel.fields import Framing

_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED


class ResponseContent:
    """The content of one response, from behind its head to its end.

    Attributes:
        ended: whether all of it has been passed on.
        late: whether bytes came behind its end.
        leftover: what came in too many chunks, and is to be passed on again.
    """

    __slots__ = ("ended", "late", "leftover")

    def __init__(self) -> None:
        self.ended = False
        self.late = False
        self.leftover: Chunk = b""

    def pass_on(self, data: Chunk, sender: SenderSide) -> int:
        """Sends the sender what the bytes mean; returns how many are content. Raises BodyError, having sent nothing."""
        raise NotImplementedError

    def receive_end(self, sender: SenderSide) -> None:
        """Takes the end of the node's stream for the content's; raises BodyError where it is not."""
        raise BodyError("the stream ended before the content did")


class CountedContent(ResponseContent):
    """Content of a known length, of which at least one byte is to come."""

    __slots__ = ("_remaining_bytes",)

    def __init__(self, length_bytes: int) -> None:
        ResponseContent.__init__(self)
        self._remaining_bytes = length_bytes

    def pass_on(self, data: Chunk, sender: SenderSide) -> int:
        """Passes the bytes as they are, up to the length."""
        size, remaining = len(data), self._remaining_bytes
        if size > remaining:
            data, size = memoryview(data)[:remaining], remaining
            self.late = True
        self._remaining_bytes = remaining - size
        self.ended = size == remaining
        sender.deliver(data)
        return size


class FramedContent(ResponseContent):
    """Content in chunks, or up to the end of the stream."""

    __slots__ = ("_door", "_in_chunks", "_reader")

    def __init__(self, response: ForwardedResponse, door: Door) -> None:
        ResponseContent.__init__(self)
        self._reader = BodyReader(response.framing, turn_chunks=TURN_CHUNKS)
        self._in_chunks = response.framing_out is _CHUNKED
        self._door = door

    def pass_on(self, data: Chunk, sender: SenderSide) -> int:
        """Takes the content out of its framing, and sends it in that of the sender's connection."""
        piece = self._reader.receive_data(data)
        content = join_chunks(piece.chunks)
        size = len(content)
        if not self._in_chunks:
            if size:
                sender.deliver(content)
        elif size >= LARGE_CHUNK_BYTES:
            sender.deliver_pieces(large_chunk(content))
        elif size:
            sender.deliver(encode_chunk(content))
        if piece.ended:
            self.late = len(piece.leftover) > 0
            self._end(sender)
        else:
            self.leftover = piece.leftover
        return size

    def receive_end(self, sender: SenderSide) -> None:
        """Ends content that goes up to the end of the stream."""
        self._reader.receive_end()
        self._end(sender)

    def _end(self, sender: SenderSide) -> None:
        self.ended = True
        if self._in_chunks:
            sender.deliver(encode_last_chunk(forward_trailers(self._reader.trailers, self._door)))


def content_of(response: ForwardedResponse, door: Door) -> ResponseContent:
    """What reads the content of a response that has some."""
    if response.framing is _LENGTH:
        return CountedContent(response.content_length)
    return FramedContent(response, door)
