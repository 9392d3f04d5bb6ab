"""One end of a shell's stream, which may be cut and attached again: nothing is lost, and nothing comes twice.

Theory of operation. Each direction is one sequence of bytes, counted from 0 for the whole life of the session. An end
keeps what it has sent until the other has *taken* it, that is used it up: given it to the terminal or the program.
Since never more than `WINDOW_BYTES` are sent beyond what was taken, that is also what either end holds at most, and
whoever has no room stops reading its source.

A connection begins with ATTACH from both ends, which says how many bytes of the other's were *received*, over all
connections so far. The sender goes on exactly there. Received counts as soon as the bytes are in this end's hands,
since its memory outlives the connection; taken never exceeds it. END and EXIT are sent once all bytes before them are,
and again in each connection until the session is over. What is of the moment is not repeated: a signal that is under
way when the connection breaks may be lost, a window's size is sent again by its owner.

The object outlives connections: `connected` begins the next one. It never awaits and owns no transport.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Final

from trunkline.channel.errors import LocalProtocolError, RemoteProtocolError
from trunkline.channel.shell_frames import (
    ENDING,
    MAX_PAYLOAD_BYTES,
    OFFSET,
    SIGNAL_NAMES,
    SIZE,
    Frame,
    ShellEndingKind,
    ShellFrame,
    ShellFrameDecoder,
    encode_frame,
)

WINDOW_BYTES: Final = 256 * 1024
"""How many bytes may be on their way, or waiting to be used up, in each direction."""
TELL_BYTES: Final = WINDOW_BYTES // 8
"""After how many bytes used up the other is told, at the latest."""
MAX_REASON_BYTES: Final = 1024
MOST_PIECES: Final = 1024
"""How many changes between standard output and error are kept before there is no room."""


class ShellRole(Enum):
    """Which end this is."""

    CALLER = "caller"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Attached:
    """The other end is there, and goes on where it was."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The next bytes; `is_error` for standard error. To be handed back with `taken` once they are used up."""

    content: bytes
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class InputEnded:
    """The caller sends no more input. May come again."""


@dataclass(frozen=True, slots=True)
class Resized:
    """The caller's terminal has this size."""

    rows: int
    columns: int


@dataclass(frozen=True, slots=True)
class Signalled:
    """The caller asks for a signal, by a name of `SIGNAL_NAMES`."""

    name: str


@dataclass(frozen=True, slots=True)
class ShellEnding:
    """The session is over: exit status or signal in `value`, and with `ENDED` the agent's reason. May come again."""

    kind: ShellEndingKind
    value: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Concluded:
    """The caller has the ending."""


@dataclass(frozen=True, slots=True)
class HungUp:
    """The caller leaves for good."""


@dataclass(frozen=True, slots=True)
class RoomMade:
    """The other end has taken bytes: there is room for more."""


ShellEvent = Attached | Bytes | InputEnded | Resized | Signalled | ShellEnding | Concluded | HungUp | RoomMade

_FROM_CALLER: Final = frozenset(
    {ShellFrame.ATTACH, ShellFrame.DATA, ShellFrame.TAKEN, ShellFrame.END, ShellFrame.RESIZE, ShellFrame.SIGNAL,
     ShellFrame.DONE, ShellFrame.HANG_UP}
)  # fmt: skip
_FROM_AGENT: Final = frozenset(
    {ShellFrame.ATTACH, ShellFrame.DATA, ShellFrame.ERROR, ShellFrame.TAKEN, ShellFrame.EXIT}
)


@dataclass(slots=True)
class _Piece:
    """A stretch of what was written, all of one kind."""

    type: ShellFrame
    content: bytearray


class _Outbox:
    """What was written and is not taken yet, and up to where this connection has sent it."""

    def __init__(self) -> None:
        self._kept: deque[_Piece] = deque()
        self._kept_from = 0
        self._sent = 0
        self.written = 0
        self.taken = 0

    @property
    def room_bytes(self) -> int:
        return WINDOW_BYTES - (self.written - self.taken) if len(self._kept) < MOST_PIECES else 0

    def write(self, kind: ShellFrame, content: bytes) -> None:
        last = self._kept[-1] if self._kept else None
        if last is not None and last.type is kind and len(last.content) < MAX_PAYLOAD_BYTES:
            last.content += content
        else:
            self._kept.append(_Piece(kind, bytearray(content)))
        self.written += len(content)

    def go_on_from(self, offset: int) -> None:
        if not max(self._kept_from, self.taken) <= offset <= self.written:
            raise RemoteProtocolError("the other end has received what was never sent, or forgotten what it had taken")
        self._forget_until(offset)
        self._sent = offset

    def taken_until(self, offset: int) -> bool:
        """Note what the other has taken; return whether that is news."""
        if not self.taken <= offset <= self._sent:
            raise RemoteProtocolError("the other end has taken what it was not sent, or less than before")
        news = offset > self.taken
        self.taken = offset
        self._forget_until(offset)
        return news

    def unsent(self) -> list[bytes]:
        """Return the frames that this connection has not sent yet; they count as sent then."""
        if self._sent == self.written:
            return []
        frames, position = [], self._kept_from
        for piece in self._kept:
            rest = bytes(piece.content[max(0, self._sent - position) :])
            position += len(piece.content)
            frames += [
                encode_frame(piece.type, rest[start : start + MAX_PAYLOAD_BYTES])
                for start in range(0, len(rest), MAX_PAYLOAD_BYTES)
            ]
        self._sent = self.written
        return frames

    def _forget_until(self, offset: int) -> None:
        while self._kept and self._kept_from + len(self._kept[0].content) <= offset:
            self._kept_from += len(self._kept.popleft().content)


class ShellFlow:
    """One end of a session, for all of its connections."""

    def __init__(self, role: ShellRole) -> None:
        self._role = role
        self._accepted = _FROM_CALLER if role is ShellRole.AGENT else _FROM_AGENT
        self._outbox = _Outbox()
        self._decoder = ShellFrameDecoder()
        self._pending: list[bytes] = []
        self._final: bytes | None = None
        self._final_sent = False
        self._attached = False
        self._received = 0
        self._taken = 0
        self._told = 0

    # What is there

    @property
    def attached(self) -> bool:
        """Whether the other end has attached to the present connection."""
        return self._attached

    @property
    def room_bytes(self) -> int:
        """How many bytes may be written now."""
        return self._outbox.room_bytes

    @property
    def written_bytes(self) -> int:
        """How many bytes were written in the life of the session."""
        return self._outbox.written

    @property
    def received_bytes(self) -> int:
        """How many bytes were received in the life of the session."""
        return self._received

    # What the owner does

    def connected(self) -> None:
        """Begin the next connection; what was to be sent on the one before and is of the moment is dropped."""
        self._decoder = ShellFrameDecoder()
        self._attached = self._final_sent = False
        self._told = self._taken
        self._pending = [encode_frame(ShellFrame.ATTACH, OFFSET.pack(self._received))]

    def disconnected(self) -> None:
        """Note that there is no connection; what is written waits for the next."""
        self._attached = False
        self._pending = []

    def write(self, content: bytes, *, is_error: bool = False) -> None:
        """Send bytes, now or in the next connection.

        Raises:
            LocalProtocolError: there is no room for them, or the end was written.
        """
        if len(content) > self.room_bytes or self._final is not None:
            raise LocalProtocolError("there is no room for these bytes, or nothing may follow any more")
        if content:
            self._outbox.write(ShellFrame.ERROR if is_error else ShellFrame.DATA, content)

    def taken(self, size_bytes: int) -> None:
        """Hand back bytes that were received and have been used up.

        Raises:
            LocalProtocolError: so many are not out.
        """
        if not 0 <= size_bytes <= self._received - self._taken:
            raise LocalProtocolError("more was handed back than was received")
        self._taken += size_bytes
        if self._attached and (self._taken == self._received or self._taken - self._told >= TELL_BYTES):
            self._tell()

    def end_input(self) -> None:
        """Say that no input follows; the caller's."""
        self._final = encode_frame(ShellFrame.END)

    def end(self, ending: ShellEnding) -> None:
        """Say how the session ended, behind all of its output; the agent's."""
        reason = ending.reason.encode()[:MAX_REASON_BYTES]
        self._final = encode_frame(ShellFrame.EXIT, ENDING.pack(ending.kind, ending.value) + reason)
        self._final_sent = False

    def resize(self, rows: int, columns: int) -> None:
        """Tell the size of the terminal, if the other end is there."""
        self._say(ShellFrame.RESIZE, SIZE.pack(rows, columns))

    def signal(self, name: str) -> None:
        """Ask for a signal, if the other end is there."""
        self._say(ShellFrame.SIGNAL, name.encode())

    def conclude(self) -> None:
        """Say that the ending was received, if the other end is there."""
        self._say(ShellFrame.DONE)

    def hang_up(self) -> None:
        """Say that the caller leaves, if the other end is there."""
        self._say(ShellFrame.HANG_UP)

    def data_to_send(self) -> bytes:
        """Return what is to be sent on the present connection."""
        pieces, self._pending = self._pending, []
        if self._attached:
            pieces += self._outbox.unsent()
            if self._final is not None and not self._final_sent:
                self._final_sent = True
                pieces.append(self._final)
        return b"".join(pieces)

    # What the other end does

    def receive_data(self, data: bytes) -> list[ShellEvent]:
        """Take bytes of the present connection.

        Raises:
            RemoteProtocolError: the other end broke the protocol; the connection is of no more use.
        """
        return [event for frame in self._decoder.receive_data(data) if (event := self._receive(frame)) is not None]

    def _receive(self, frame: Frame) -> ShellEvent | None:
        kind, payload = frame
        if kind not in self._accepted or (kind is ShellFrame.ATTACH) is self._attached:
            raise RemoteProtocolError(f"a shell's frame {kind.name} is out of place")
        if kind is ShellFrame.ATTACH:
            self._outbox.go_on_from(_offset(payload))
            self._attached = True
            self._tell()
            return Attached()
        if kind in (ShellFrame.DATA, ShellFrame.ERROR):
            return self._receive_bytes(payload, is_error=kind is ShellFrame.ERROR)
        if kind is ShellFrame.TAKEN:
            return RoomMade() if self._outbox.taken_until(_offset(payload)) else None
        return _parse_event(kind, payload)

    def _receive_bytes(self, content: bytes, *, is_error: bool) -> Bytes | None:
        if self._received + len(content) - self._taken > WINDOW_BYTES:
            raise RemoteProtocolError("the other end sent more than there is room for")
        self._received += len(content)
        return Bytes(content, is_error) if content else None

    def _tell(self) -> None:
        self._told = self._taken
        self._pending.append(encode_frame(ShellFrame.TAKEN, OFFSET.pack(self._taken)))

    def _say(self, kind: ShellFrame, payload: bytes = b"") -> None:
        if self._attached:
            self._pending.append(encode_frame(kind, payload))


def _offset(payload: bytes) -> int:
    if len(payload) != OFFSET.size:
        raise RemoteProtocolError("an offset has 8 bytes")
    return int(OFFSET.unpack(payload)[0])


def _parse_event(kind: ShellFrame, payload: bytes) -> ShellEvent:
    if kind is ShellFrame.RESIZE:
        if len(payload) != SIZE.size:
            raise RemoteProtocolError("a terminal's size has 4 bytes")
        return Resized(*SIZE.unpack(payload))
    if kind is ShellFrame.SIGNAL:
        name = payload.decode("ascii", "replace")
        if name not in SIGNAL_NAMES:
            raise RemoteProtocolError("a signal of this name cannot be asked for")
        return Signalled(name)
    if kind is ShellFrame.EXIT:
        return _parse_ending(payload)
    if payload:
        raise RemoteProtocolError(f"a shell's frame {kind.name} has no payload")
    if kind is ShellFrame.END:
        return InputEnded()
    return Concluded() if kind is ShellFrame.DONE else HungUp()


def _parse_ending(payload: bytes) -> ShellEnding:
    if not ENDING.size <= len(payload) <= ENDING.size + MAX_REASON_BYTES:
        raise RemoteProtocolError("an ending has 2 bytes and a line")
    kind, value = ENDING.unpack_from(payload)
    try:
        return ShellEnding(ShellEndingKind(kind), value, payload[ENDING.size :].decode("utf-8", "replace"))
    except ValueError:
        raise RemoteProtocolError(f"an ending of the unknown kind {kind}") from None
