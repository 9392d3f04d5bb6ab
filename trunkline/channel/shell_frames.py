"""The frames of a shell's stream: what is on the wire after the 101, and a decoder for both ends.

A frame is a header of 4 bytes, big-endian, type (u8) and length of the payload (u24), and the payload, of at most
`MAX_PAYLOAD_BYTES`. The types, who sends them, and what is in them are the table below; see section 5 of
`docs/protocol.md`.
"""

from enum import IntEnum
from struct import Struct
from typing import Final, NamedTuple

from trunkline.channel.errors import RemoteProtocolError

UPGRADE_PROTOCOL: Final = b"trunkline-shell"
MAX_PAYLOAD_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = 4
SIGNAL_NAMES: Final = frozenset({"HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "KILL", "STOP", "TSTP", "CONT"})

OFFSET: Final = Struct(">Q")
SIZE: Final = Struct(">HH")
ENDING: Final = Struct(">BB")


class ShellFrame(IntEnum):
    """The types of frames."""

    ATTACH = 1  # both, once, first: how many bytes of the other's were received so far (u64)
    DATA = 2  # both: input, and output (standard output, or all that a terminal shows)
    ERROR = 3  # the agent: standard error, where there is no terminal; offsets count DATA and ERROR together
    TAKEN = 4  # both: how many bytes of the other's have been used up so far (u64), which is credit too
    END = 5  # the caller: no input follows
    RESIZE = 6  # the caller: rows and columns of its terminal (u16 each)
    SIGNAL = 7  # the caller: a signal's name, for the foreground of the session
    EXIT = 8  # the agent: how it ended (u8 `ShellEndingKind`, u8 value), and a line for people (UTF-8)
    DONE = 9  # the caller: has the EXIT
    HANG_UP = 10  # the caller: leaves, the session is to end


class ShellEndingKind(IntEnum):
    """How a session ended: its first program exited or was killed, or the agent ended it for a reason of its own."""

    EXITED = 0
    KILLED = 1
    ENDED = 2


class Frame(NamedTuple):
    """One frame."""

    type: ShellFrame
    payload: bytes


def encode_frame(kind: ShellFrame, payload: bytes = b"") -> bytes:
    """Write a frame; `payload` is at most `MAX_PAYLOAD_BYTES`."""
    return (kind << 24 | len(payload)).to_bytes(HEADER_BYTES, "big") + payload


class ShellFrameDecoder:
    """Turns received bytes into frames; at most one unfinished frame is kept."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial = b""

    def receive_data(self, data: bytes) -> list[Frame]:
        """Decode what `data` completes.

        Raises:
            RemoteProtocolError: a type that is not known, or a payload above the bound.
        """
        data = self._partial + data
        frames: list[Frame] = []
        position = 0
        while len(data) - position >= HEADER_BYTES:
            header = int.from_bytes(data[position : position + HEADER_BYTES], "big")
            kind, length = _checked(header >> 24, header & 0xFFFFFF)
            end = position + HEADER_BYTES + length
            if end > len(data):
                break
            frames.append(Frame(kind, data[position + HEADER_BYTES : end]))
            position = end
        self._partial = data[position:]
        return frames


def _checked(kind: int, length: int) -> tuple[ShellFrame, int]:
    if length > MAX_PAYLOAD_BYTES:
        raise RemoteProtocolError(f"a shell's frame of {length} bytes is above the bound of {MAX_PAYLOAD_BYTES}")
    try:
        return ShellFrame(kind), length
    except ValueError:
        raise RemoteProtocolError(f"a shell's frame of the unknown type {kind}") from None
