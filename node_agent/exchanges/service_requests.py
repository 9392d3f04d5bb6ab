"""What a service on loopback gets to see of a request.

That is the head without what is the relay's and the agent's, the body in its own framing, and nothing behind it.
"""

from trunkline.channel.bodies import BodyError, BodyReader, encode_chunk, encode_last_chunk
from trunkline.channel.fields import HOP_BY_HOP, Field, end_to_end
from trunkline.channel.heads import Framing, RequestHead, write_request_head


def service_head(head: RequestHead) -> bytes:
    """Write the request head for the service.

    Hop-by-hop fields are dropped, the token with them; `Host` stays as the caller wrote it, so that links which the
    service makes from it lead back through the relay.
    """
    dropped = HOP_BY_HOP - {b"trailer"} if head.framing is Framing.CHUNKED else HOP_BY_HOP
    fields = end_to_end(head.fields, dropped)
    if head.upgrade is not None:
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    else:
        fields += [*_framing_fields(head), (b"Connection", b"close")]
    return write_request_head(head.method, head.target_origin, fields)


def _framing_fields(head: RequestHead) -> list[Field]:
    if head.framing is Framing.CHUNKED:
        return [(b"Transfer-Encoding", b"chunked")]
    if head.framing is Framing.LENGTH:
        return [(b"Content-Length", b"%d" % head.content_length)]
    return []


class ServiceBody:
    """Turns what arrives behind the head into the body that the service gets."""

    def __init__(self, head: RequestHead) -> None:
        self._reader = BodyReader(head.framing, head.content_length)
        self._chunked = head.framing is Framing.CHUNKED

    def receive_data(self, data: bytes | memoryview) -> list[bytes | memoryview]:
        """Return the bytes for the service.

        Raises:
            BodyError: the framing is broken, or there is something behind the body.
        """
        if self._reader.ended:
            raise BodyError("there are bytes behind the request")
        piece = self._reader.receive_data(data)
        if len(piece.leftover):
            raise BodyError("there are bytes behind the request")
        if not self._chunked:
            return list(piece.chunks)
        written: list[bytes | memoryview] = [encode_chunk(chunk) for chunk in piece.chunks]
        if piece.ended:
            written.append(encode_last_chunk(self._reader.trailers))
        return written
