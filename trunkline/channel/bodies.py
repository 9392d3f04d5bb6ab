"""Content of HTTP/1.1 messages: reading it under its framing, and writing chunks.

`BodyReader` is sans-I/O: any split of the input gives the same content, end, trailers and leftover bytes. It holds no
content back; what it buffers is at most one chunk-size line or one trailer section. Chunk extensions are refused (RFC
9112 section 7.1.1 would let a recipient ignore them, which is how two recipients come to disagree).
"""

import re
from typing import Final, NamedTuple

from trunkline.channel.fields import (
    BARE_LINE_END,
    MAX_TRAILER_BYTES,
    Field,
    Framing,
    HeadError,
    parse_trailers,
    write_field_lines,
)
from trunkline.channel.frames import UNBOUNDED

MAX_SIZE_LINE_BYTES: Final = 18
LAST_CHUNK: Final = b"0\r\n\r\n"
LARGE_CHUNK_BYTES: Final = 16 * 1024

_SIZE_LINE: Final = re.compile(rb"[0-9A-Fa-f]{1,16}")
_SIZE_LINE_START: Final = re.compile(rb"[0-9A-Fa-f]{0,16}+\r?+")

CARRIAGE_RETURN: Final = 0x0D
ZERO: Final = 0x30
_SMALL_SIZES: Final = {form % size: size for size in range(1, 256) for form in (b"%x", b"%X")}

Chunk = bytes | memoryview


class BodyError(Exception):
    """Content that breaks its framing: malformed chunks, or an end before the announced one."""


class BodyPiece(NamedTuple):
    """What came out of some input: content, whether the body has ended, and the bytes behind its end.

    Of a body that has not ended, `leftover` is what came in more than `turn_chunks` chunks: it is to be passed again.
    """

    chunks: list[Chunk]
    ended: bool
    leftover: Chunk


class BodyReader:
    """Reads one message's content; `trailers` is filled when a chunked body has ended."""

    __slots__ = ("_buffer", "_ended", "_framing", "_in_chunk", "_in_trailers", "_remaining", "_turn_chunks", "trailers")

    def __init__(self, framing: Framing, content_length: int = 0, *, turn_chunks: int = UNBOUNDED) -> None:
        """Begin behind a head; one call takes `turn_chunks` chunks at most."""
        self._turn_chunks = turn_chunks
        self._framing = framing
        self._remaining = content_length if framing is Framing.LENGTH else 0
        self._ended = framing is Framing.NONE or (framing is Framing.LENGTH and content_length == 0)
        self._in_chunk = False
        self._in_trailers = False
        self._buffer = b""
        self.trailers: list[Field] = []

    @property
    def ended(self) -> bool:
        """Whether the whole body has been read."""
        return self._ended

    def receive_data(self, data: Chunk) -> BodyPiece:
        """Takes bytes as they come; raises BodyError, after which the reader must not be used."""
        if self._ended:
            return BodyPiece([], True, data)
        if self._framing is Framing.LENGTH:
            return self._receive_counted(data)
        if self._framing is Framing.CHUNKED:
            return self._receive_chunked(data)
        return BodyPiece([data] if len(data) else [], False, b"")

    def receive_end(self) -> None:
        """Takes the end of the connection; raises BodyError unless the body was framed by it or had ended."""
        if not self._ended and self._framing not in (Framing.CLOSE, Framing.TUNNEL):
            raise BodyError("the connection ended before the content did")
        self._ended = True

    def _receive_counted(self, data: Chunk) -> BodyPiece:
        if len(data) < self._remaining:
            self._remaining -= len(data)
            return BodyPiece([data] if len(data) else [], False, b"")
        view = memoryview(data)
        content, leftover = view[: self._remaining], view[self._remaining :]
        self._remaining = 0
        self._ended = True
        return BodyPiece([content], True, leftover)

    def _receive_chunked(self, data: Chunk) -> BodyPiece:
        chunks: list[Chunk] = []
        view = memoryview(data)
        raw = data if isinstance(data, bytes) else b""
        while view and not self._ended and len(chunks) < self._turn_chunks:
            if not (self._in_trailers or self._remaining or self._in_chunk or self._buffer) and _begins_small(view):
                raw = raw or bytes(data)
                taken_to = _take_small_chunks(raw, len(raw) - len(view), chunks, self._turn_chunks)
                if len(raw) - taken_to < len(view):
                    view = view[len(view) - len(raw) + taken_to :]
                    continue
            if self._in_trailers:
                view = self._take_trailers(view)
            elif self._remaining:
                taken = view[: self._remaining]
                chunks.append(taken)
                self._remaining -= len(taken)
                view = view[len(taken) :]
            elif self._in_chunk:
                view = self._take_chunk_end(view)
            else:
                view = self._take_size_line(view)
        return BodyPiece(chunks, self._ended, view)

    def _take_chunk_end(self, view: memoryview) -> memoryview:
        """Takes the CRLF behind a chunk's content."""
        wanted = 2 - len(self._buffer)
        self._buffer += bytes(view[:wanted])
        if not b"\r\n".startswith(self._buffer):
            raise BodyError("a chunk is longer than its size")
        if len(self._buffer) == 2:
            self._buffer = b""
            self._in_chunk = False
        return view[wanted:]

    def _take_size_line(self, view: memoryview) -> memoryview:
        held = len(self._buffer)
        line = self._buffer + bytes(view[: MAX_SIZE_LINE_BYTES - held])
        end = line.find(b"\r\n")
        if end < 0:
            if not _SIZE_LINE_START.fullmatch(line) or len(line) >= MAX_SIZE_LINE_BYTES:
                raise BodyError("a chunk size is malformed")
            self._buffer = line
            return view[len(line) - held :]
        if not _SIZE_LINE.fullmatch(line, 0, end):
            raise BodyError("a chunk size is malformed")
        self._buffer = b""
        self._remaining = int(line[:end], 16)
        self._in_chunk = self._remaining > 0
        self._in_trailers = not self._in_chunk
        return view[end + 2 - held :]

    def _take_trailers(self, view: memoryview) -> memoryview:
        held = len(self._buffer)
        section = self._buffer + bytes(view[: MAX_TRAILER_BYTES + 4 - held])
        # The section ends at its first empty line, which is the very first where there are no trailers.
        end = 0 if section.startswith(b"\r\n") else section.find(b"\r\n\r\n", max(0, held - 3)) + 2
        if end == 1:
            if len(section) >= MAX_TRAILER_BYTES + 4 or BARE_LINE_END.search(section, max(0, held - 1)):
                raise BodyError("the trailers are malformed or too large")
            self._buffer = section
            return view[len(section) - held :]
        try:
            self.trailers = parse_trailers(section[:end])
        except HeadError as error:
            raise BodyError(str(error)) from None
        self._buffer = b""
        self._ended = True
        return view[end + 2 - held :]


def _begins_small(view: memoryview) -> bool:
    """Whether a chunk begins here whose size has one or two digits, or zeros in front."""
    return len(view) > 2 and (view[1] == CARRIAGE_RETURN or view[2] == CARRIAGE_RETURN or view[0] == ZERO)


def _take_small_chunks(raw: bytes, position: int, chunks: list[Chunk], most: int) -> int:
    """Takes whole chunks of 1 to 255 bytes, for as long as there are; returns where the first other thing begins.

    It stops at `most` chunks.

    They cost a twentieth of what others do, so that a body of nothing but such chunks holds up nobody.
    """
    while len(chunks) < most:
        line_end = raw.find(b"\r\n", position, position + MAX_SIZE_LINE_BYTES)
        # Zeros in front are allowed, and are no way to make chunks dear.
        size = _SMALL_SIZES.get(raw[position:line_end].lstrip(b"0"), 0) if line_end > position else 0
        end = line_end + 2 + size
        if not size or raw[end : end + 2] != b"\r\n":
            return position
        chunks.append(raw[line_end + 2 : end])
        position = end + 2
    return position


def encode_chunk(content: Chunk) -> bytes:
    """One chunk; empty for no content, since an empty chunk would end the body."""
    return b"".join((b"%x\r\n" % len(content), content, b"\r\n")) if len(content) else b""


def large_chunk(content: Chunk) -> list[Chunk]:
    """One chunk in the pieces to write: content of `LARGE_CHUNK_BYTES` or more is not worth a copy."""
    return [b"%x\r\n" % len(content), content, b"\r\n"]


def join_chunks(chunks: list[Chunk]) -> Chunk:
    """What came at once, in one piece: chunks of a byte each would cost the next hop a frame each."""
    if len(chunks) == 1:
        return chunks[0]
    return b"".join(chunks)


def encode_last_chunk(trailers: list[Field]) -> bytes:
    """The end of a chunked body, with trailers that came from a `BodyReader`."""
    return b"0\r\n%b\r\n" % write_field_lines(trailers) if trailers else LAST_CHUNK
