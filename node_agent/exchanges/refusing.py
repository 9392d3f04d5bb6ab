"""The answers that the agent gives where no application does, and the rest of a stream that nobody wants."""

import json

from node_agent.exchanges.deadlines import Deadlines
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import write_response_head
from trunkline.channel.link import LinkStream


def write_refusal(
    status: int, error_code: str, message: str, *, head_only: bool = False, fields: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """Return a whole response that refuses, in the form that the API uses; `head_only` is for HEAD."""
    content = json.dumps({"error_code": error_code, "message": message}).encode("ascii")
    head = write_response_head(
        status,
        [
            (b"Content-Type", b"application/json"),
            (b"Content-Length", b"%d" % len(content)),
            (b"Cache-Control", b"no-store"),
            (b"Connection", b"close"),
            *fields,
        ],
    )
    return head if head_only else head + content


class Unwanted:
    """Takes what still arrives on a stream that has been answered, and lets it go; the deadline ends it."""

    __slots__ = ("_lingering", "_stream")

    def __init__(self, stream: LinkStream, lingering: "Deadlines[LinkStream]") -> None:
        self._stream = stream
        self._lingering = lingering
        lingering.add(stream)

    def data_received(self, data: bytes | memoryview) -> None:
        """Let it go."""
        self._stream.consumed(len(data))

    def end_received(self) -> None:
        """The peer is done too."""
        self._lingering.discard(self._stream)

    def window_opened(self) -> None:
        """Nothing waits."""

    def stream_lost(self, error: ChannelError) -> None:
        """Nothing is lost by it."""
        self._lingering.discard(self._stream)
