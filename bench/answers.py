"""Answers from memory: what stands behind the relay and behind nginx, so that the node's work is next to nothing.

GET /small         200 bytes
GET /bulk/<bytes>  that many bytes
PUT /upload        takes the content, counted or in chunks, answers 204
"""

from __future__ import annotations

SMALL_CONTENT = b"x" * 200
BLOCK = bytes(65_536)
HEAD_END = b"\r\n\r\n"


class Request:
    """One request, as far as a canned answer needs it."""

    __slots__ = ("bulk_bytes", "chunked", "content_left", "head")

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.bulk_bytes = 0
        self.content_left = 0
        self.chunked = False
        if head.startswith(b"GET /bulk/"):
            self.bulk_bytes = int(head[10 : head.index(b" ", 10)])
        elif head.startswith(b"P"):
            self.content_left = _content_length(head)
            self.chunked = b"\r\ntransfer-encoding: chunked\r\n" in head.lower()

    def ended_by(self, data: bytes | memoryview) -> bool:
        """Whether this piece of content is the last; where it is in chunks, as its last bytes say."""
        self.content_left -= len(data)
        return bytes(data[-5:]) == b"0\r\n\r\n" if self.chunked else self.content_left <= 0

    def answer(self, *, close: bool) -> bytes:
        """The head of the answer, with its content if that is small; `bulk_bytes` of zeros follow."""
        end = b"\r\nConnection: close\r\n\r\n" if close else b"\r\n\r\n"
        if self.bulk_bytes:
            return (
                b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d" % self.bulk_bytes
                + end
            )
        if self.head.startswith(b"GET "):
            return b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 200" + end + SMALL_CONTENT
        return b"HTTP/1.1 204 No Content" + end


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        return 0
    return int(lower[at + 17 : lower.index(b"\r\n", at + 2)])
