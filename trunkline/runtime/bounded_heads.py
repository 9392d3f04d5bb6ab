"""Connections of an HTTP server whose request heads are bounded as wholes, and whose content is not unpacked.

aiohttp bounds each field of a head and their number, and the product of the two is megabytes that a stranger can have
held on every connection. What has to be bounded is what it holds without a request coming of it: bytes behind the last
request and its content, be they an unfinished head, or trailers.

aiohttp also unpacks content that comes with `Content-Encoding`, up to a mebibyte ahead of whoever reads it, and takes
one that was cut short for whole.
"""

import json
from typing import Any, Final

from aiohttp import web

MOST_HEAD_BYTES: Final = 32 * 1024
"""As the relay takes them; besides, what has come in the same read."""


class BoundedHeads(web.RequestHandler):
    """A connection that is refused (431) once `MOST_HEAD_BYTES` have come of which no head and no content was made."""

    __slots__ = ("_content", "_requests", "_unmade_bytes")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, auto_decompress=False, **options)
        self._requests = 0
        self._content: Any = None
        self._unmade_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take bytes, and look what has come of them."""
        content_bytes = self._content_bytes
        super().data_received(data)
        if self._request_count != self._requests:
            self._requests, self._content = self._request_count, self._messages[-1][1]
        elif self._content_bytes == content_bytes:
            self._unmade_bytes += len(data)
            if self._unmade_bytes > MOST_HEAD_BYTES:
                self._refuse()
            return
        self._unmade_bytes = 0

    @property
    def _content_bytes(self) -> int:
        """How much has come of the content of the newest request."""
        return self._content.total_bytes if self._content is not None else 0

    def _refuse(self) -> None:
        transport = self.transport
        if transport is None:
            return
        if self._waiter is None:  # an answer is being made, or sent: another one would stand in the middle of it
            transport.abort()
            return
        transport.write(_refusal())
        self.force_close()


def _refusal() -> bytes:
    message = f"the head of the request is longer than {MOST_HEAD_BYTES} bytes"
    content = json.dumps({"error_code": "BAD_REQUEST", "message": message}).encode()
    head = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
    return head % len(content) + b"Connection: close\r\n\r\n" + content
