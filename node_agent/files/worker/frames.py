"""What the agent and its file workers say to each other: frames with a document or with content.

A frame is its kind (one byte), the length of what follows (four, big-endian), and that. The agent believes nothing of
what comes from a worker but that it is the word of a process of that user.
"""

import json
import struct
from enum import Enum
from typing import Any

HEADER = struct.Struct(">cI")
MOST_FRAME_BYTES = 1024 * 1024
PIECE_BYTES = 262_144

Document = dict[str, Any]


class FrameKind(Enum):
    """What a frame holds."""

    DOCUMENT = b"D"
    CONTENT = b"C"


class FrameError(Exception):
    """The other side does not keep to the form."""


def encode_document(document: Document) -> bytes:
    """Return a document as a frame."""
    body = json.dumps(document, separators=(",", ":")).encode()
    return HEADER.pack(FrameKind.DOCUMENT.value, len(body)) + body


def content_header(size_bytes: int) -> bytes:
    """Return what comes before content."""
    return HEADER.pack(FrameKind.CONTENT.value, size_bytes)


def decode_header(header: bytes) -> tuple[FrameKind, int]:
    """Return the kind of a frame, and how much follows.

    Raises:
        FrameError: there is no such kind, or it is too long.
    """
    letter, size_bytes = HEADER.unpack(header)
    try:
        kind = FrameKind(letter)
    except ValueError:
        raise FrameError("a frame of an unknown kind") from None
    if size_bytes > MOST_FRAME_BYTES:
        raise FrameError("a frame is too long")
    return kind, size_bytes


def decode_document(body: bytes) -> Document:
    """Return the document of a frame.

    Raises:
        FrameError: it is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise FrameError("a frame holds no document")
    return document
