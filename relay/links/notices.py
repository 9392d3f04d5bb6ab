"""Notices from the relay to a listener: `POST /v1/notice` to `link.internal`, one exchange on a stream of its own.

The request goes out as credit allows. The stream is ended when the answer's head is there, and reset when that takes
longer than its deadline: a listener that knows no notices costs nothing but this stream.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import HeadBuffer, HeadError, parse_response_head, write_request_head
from trunkline.channel.link import Link, LinkStream

CONTROL_HOST = b"link.internal"
NOTICE_PATH = b"/v1/notice"


def write_notice(kind: str, **members: Any) -> bytes:
    """Return the whole request that gives a notice of this type."""
    body = json.dumps({"type": kind, **members}, separators=(",", ":")).encode()
    fields = [
        (b"Host", CONTROL_HOST),
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
    ]
    return write_request_head(b"POST", NOTICE_PATH, fields) + body


class NoticeExchange:
    """One notice on its way; tells `finished` once how it ended: `accepted`, `refused`, `silent` or `lost`."""

    __slots__ = ("_deadline", "_finished", "_head", "_request", "_stream")

    def __init__(self, request: bytes, finished: Callable[[str], None]) -> None:
        self._request = memoryview(request)
        self._finished: Callable[[str], None] | None = finished
        self._head: HeadBuffer | None = HeadBuffer()
        self._stream: LinkStream | None = None
        self._deadline: asyncio.TimerHandle | None = None

    def start(self, link: Link, timeout_seconds: float) -> None:
        """Open the stream and begin to send.

        Raises:
            ChannelError: the link is draining, full or lost; `finished` is not called then.
        """
        self._stream = link.open(self)
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(timeout_seconds, self._expire)
        self.window_opened()

    def window_opened(self) -> None:
        """Send what the credit allows."""
        stream = self._stream
        while stream is not None and self._request and stream.send_room_bytes > 0:
            piece = self._request[: stream.send_room_bytes]
            self._request = self._request[len(piece) :]
            stream.write(piece)

    def data_received(self, data: bytes | memoryview) -> None:
        """Look for the answer's head; what follows it is nobody's concern."""
        stream = self._stream
        if stream is None:
            return
        stream.consumed(len(data))
        if self._head is None:
            return
        try:
            raw = self._head.receive_data(data)
            if raw is None:
                return
            status = parse_response_head(raw, request_method=b"POST").status
        except HeadError:
            self._end("refused")
            stream.reset()
            return
        self._head = None
        self._end("accepted" if 200 <= status < 300 else "refused")
        stream.end()

    def end_received(self) -> None:
        """The listener has nothing more to say."""
        if self._finished is not None and self._stream is not None:
            self._end("refused")
            self._stream.reset()
        self._forget()

    def stream_lost(self, error: ChannelError) -> None:
        """The stream was reset, or the link is gone."""
        self._end("lost")
        self._forget()

    def _expire(self) -> None:
        stream, self._stream = self._stream, None
        self._end("silent")
        if stream is not None:
            stream.reset()

    def _end(self, result: str) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(result)

    def _forget(self) -> None:
        self._stream = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
