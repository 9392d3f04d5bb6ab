"""The worker's end of the socket: it blocks, since the worker does one thing at a time."""

import socket
import time

from node_agent.files.worker.frames import (
    HEADER,
    Document,
    FrameKind,
    content_header,
    decode_document,
    decode_header,
    encode_document,
)

PROGRESS_SECONDS = 1.0


class AgentGone(Exception):  # noqa: N818 - what happened
    """The agent has ended the conversation: whatever is half done stays so."""


class Conversation:
    """What is heard of the agent, and said to it."""

    def __init__(self, agent: socket.socket) -> None:
        self._agent = agent
        self._told_at = time.monotonic()

    def request(self) -> Document:
        """Return the next document; content before it belongs to what has failed, and is let go.

        It is read all the same: a socket that is closed on unread content loses what was said last.

        Raises:
            AgentGone: there is none any more.
        """
        while True:
            kind, body = self._frame()
            if kind is FrameKind.DOCUMENT:
                return decode_document(body)

    def content(self) -> bytes | Document:
        """Return the next piece of a file, or the document behind the last.

        Raises:
            AgentGone: the sender of the file has gone.
        """
        kind, body = self._frame()
        return body if kind is FrameKind.CONTENT else decode_document(body)

    def say(self, document: Document) -> None:
        """Say something."""
        self._send(encode_document(document))

    def give(self, content: bytes) -> None:
        """Hand over a piece of a file."""
        self._send(content_header(len(content)))
        self._send(content)

    def progress(self, size_bytes: int) -> None:
        """Say how far a reading is, now and then."""
        now = time.monotonic()
        if now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now
            self.say({"progress": size_bytes})

    def _frame(self) -> tuple[FrameKind, bytes]:
        kind, size_bytes = decode_header(self._exactly(HEADER.size))
        return kind, self._exactly(size_bytes)

    def _exactly(self, size_bytes: int) -> bytes:
        content = bytearray()
        while len(content) < size_bytes:
            try:
                piece = self._agent.recv(size_bytes - len(content))
            except OSError:
                piece = b""
            if not piece:
                raise AgentGone
            content += piece
        return bytes(content)

    def _send(self, content: bytes) -> None:
        try:
            self._agent.sendall(content)
        except OSError:
            raise AgentGone from None
