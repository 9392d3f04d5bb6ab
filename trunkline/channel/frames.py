"""The frames of yamux on the wire: constants, how a header is written, and a decoder that buffers no payload.

A frame is a header of 12 bytes, big-endian: version (u8, always 0), type (u8), flags (u16), stream id (u32) and
length (u32). Only DATA has a payload, of `length` bytes; in the other types the length is a number: credit, an opaque
ping value, or a GoAway code. The first four bytes are read and written here as one number, the *word*: with version 0
it is `type << 16 | flags`, so a plain DATA frame is the word 0 and one comparison recognises it.

The decoder turns bytes into frames `(word, stream_id, length, payload)` and keeps at most 11 bytes: what has arrived
of an unfinished header. A DATA frame is handed on as soon as its header is complete, with as much of the payload as
is there; the rest follows as frames with the word `CONTINUED`. Whoever reads the frames can so refuse a length before
a single byte of it is stored. With a bound on the frames of one call it keeps what is beyond it as well, and says so.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

from trunkline.channel.errors import RemoteProtocolError

PROTOCOL_VERSION: Final = 0
HEADER_BYTES: Final = 12
INITIAL_WINDOW_BYTES: Final = 256 * 1024
MAX_WINDOW_BYTES: Final = 2**32 - 1
MAX_STREAM_ID: Final = 2**32 - 1

# Below this a slice copies faster than a memoryview is made and used.
VIEW_BYTES: Final = 16 * 1024


class FrameType(IntEnum):
    """The type octet."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """The flags; PING uses SYN for the question and ACK for the answer."""

    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


class GoAwayCode(IntEnum):
    """Why a session ends. No other code is ever sent; a peer's unknown code ends the session too."""

    NORMAL = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2


# The same numbers once more, written out: as literals they cost a compiled session nothing.
SYN: Final = 0x1
ACK: Final = 0x2
FIN: Final = 0x4
RST: Final = 0x8
FLAGS_MASK: Final = 0xFFFF
KNOWN_FLAGS: Final = 0xF

DATA: Final = 0x0_0000
WINDOW_UPDATE: Final = 0x1_0000
PING: Final = 0x2_0000
GO_AWAY: Final = 0x3_0000
LAST_WORD: Final = 0x3_FFFF

# The word of a piece of payload that follows its frame; its length is the number of bytes still to come after it.
CONTINUED: Final = -1

UNBOUNDED: Final = 2**60
"""Of what is counted in one turn: more than there can be."""
OPENING_WEIGHT: Final = 3
"""As many plain frames an opening one counts as, where the frames of one call are bounded: a stream is dear to make."""

Frame = tuple[int, int, int, bytes | memoryview]

_HEADER: Final = Struct(">III")
_unpack_header_from: Final = _HEADER.unpack_from

encode_header: Final = _HEADER.pack
"""Write a header: `encode_header(word, stream_id, length) -> bytes` of 12 bytes; the numbers must fit 32 bits."""


class FrameDecoder:
    """Turns received bytes into frames; any split of the bytes gives the same frames, but for the cuts in payloads.

    Memory: at most 11 bytes are kept between calls, and the bytes of frames beyond `turn_frames`.
    """

    __slots__ = ("_kept", "_kept_at", "_payload_left", "_stream_id", "_turn_frames", "failure", "unread")

    def __init__(self, turn_frames: int = UNBOUNDED) -> None:
        """Begin on a new connection; a call returns `turn_frames` frames at most, of which a SYN counts several."""
        self._turn_frames = turn_frames
        self._kept = b""
        self._kept_at = 0
        self._payload_left = 0
        self._stream_id = 0
        self.failure: RemoteProtocolError | None = None
        """The error behind the frames that were returned last; nothing is decoded after it."""
        self.unread = False
        """Whether there are more frames than one call returns: call `receive_data` again, with or without new bytes."""

    def receive_data(self, data: bytes) -> list[Frame]:
        """Decode what `data` completes.

        Args:
            data: the next bytes of the connection. Large payloads are returned as views of it, so it must not change.

        Returns:
            The frames, in order. A header with an unknown version or type stops the decoder and sets `failure`.
        """
        frames: list[Frame] = []
        position = 0
        if self._payload_left:
            position = self._continue_payload(data, frames)
        elif self._kept:
            data, position = self._take_kept(data)
        size = len(data)
        left = self._turn_frames
        word: int
        stream_id: int
        length: int
        while size - position >= HEADER_BYTES:
            if left <= 0:
                self._kept, self._kept_at, self.unread = data, position, True
                return frames
            word, stream_id, length = _unpack_header_from(data, position)
            position += HEADER_BYTES
            left -= OPENING_WEIGHT if word & SYN else 1
            if word > FLAGS_MASK:
                if word > LAST_WORD:
                    self.failure = _unknown_header(word)
                    return frames
                frames.append((word, stream_id, length, b""))
                continue
            end = position + length
            if end > size:
                self._payload_left = end - size
                self._stream_id = stream_id
                end = size
            if length < VIEW_BYTES:
                frames.append((word, stream_id, length, data[position:end]))
            else:
                frames.append((word, stream_id, length, _piece(data, position, end)))
            position = end
        if position < size:
            self._kept = data[position:]
        return frames

    def _take_kept(self, data: bytes) -> tuple[bytes, int]:
        """What earlier calls left, with the new bytes behind it; and where in it to go on."""
        kept, position = self._kept, self._kept_at
        self._kept, self._kept_at, self.unread = b"", 0, False
        return (kept[position:] + data, 0) if data else (kept, position)

    def _continue_payload(self, data: bytes, frames: list[Frame]) -> int:
        """Append the next piece of the unfinished payload; returns where it ends in `data`."""
        end = min(self._payload_left, len(data))
        if end:
            self._payload_left -= end
            frames.append((CONTINUED, self._stream_id, self._payload_left, _piece(data, 0, end)))
        return end


def _piece(data: bytes, start: int, end: int) -> bytes | memoryview:
    """Cut a piece out of `data`; a view only where that does not keep four times its size alive."""
    length = end - start
    if length < VIEW_BYTES or length * 4 < len(data):
        return data[start:end]
    if length == len(data):
        return data
    return memoryview(data)[start:end]


def _unknown_header(word: int) -> RemoteProtocolError:
    version, kind = word >> 24, word >> 16 & 0xFF
    if version != PROTOCOL_VERSION:
        return RemoteProtocolError(f"the peer sent a frame of version {version}; only version 0 is known")
    return RemoteProtocolError(f"the peer sent a frame of the unknown type {kind}")
