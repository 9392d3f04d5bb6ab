"""What a WebSocket's peer sends, taken apart: the payload of binary messages as it comes, control frames as a whole.

The mux knows no messages, so a frame need not be whole before its payload is passed on (RFC 6455 section 5.4 lets even
a recipient of messages do that): nothing is kept but what has arrived of a header or of a control frame. Any split of
the bytes gives the same payload and control frames. Of the pings that come at once only the last is worth an answer
(section 5.5.3), and no pong is worth one, so that frames of nothing cost hardly more than their bytes.
"""

from __future__ import annotations

from typing import Final

from websockets.frames import CloseCode, Opcode

try:
    from websockets.speedups import apply_mask
except ImportError:
    from websockets.utils import apply_mask

_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_CONTINUATION: Final = int(Opcode.CONT)
_TEXT: Final = int(Opcode.TEXT)
_BINARY: Final = int(Opcode.BINARY)
_CLOSE: Final = int(Opcode.CLOSE)
_PING: Final = int(Opcode.PING)
_OPCODES: Final = frozenset(map(int, Opcode))
_MOST_CONTROL_BYTES: Final = 125
_MASK_BYTES: Final = 4


class BreachError(Exception):
    """What RFC 6455, or a bound of ours, forbids; `code` is the close code that answers it."""

    def __init__(self, code: CloseCode, what: str) -> None:
        super().__init__(what)
        self.code = code


class PayloadReader:
    """Reads one direction of a WebSocket.

    Attributes:
        breach: what ended the reading; nothing is read behind it, nor behind a close frame.
    """

    __slots__ = (
        "_close", "_in_message", "_kept", "_largest_message_bytes", "_left", "_mask", "_masked", "_message_bytes",
        "_ping", "breach",
    )  # fmt: skip

    def __init__(self, *, masked: bool, largest_message_bytes: int) -> None:
        """Begin; `masked` says whether the peer is the end that masks."""
        self._masked = masked
        self._largest_message_bytes = largest_message_bytes
        self._kept = b""
        self._left = 0
        self._mask = b""
        self._in_message = False
        self._message_bytes = 0
        self._ping: bytes | None = None
        self._close: bytes | None = None
        self.breach: BreachError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing is read any more."""
        return self._close is not None or self.breach is not None

    def receive_data(self, data: bytes) -> bytes:
        """Take in bytes; returns the payload that came with them, up to a close frame or a breach."""
        pieces: list[bytes] = []
        if not self.over:
            try:
                self._read(self._kept + data if self._kept else data, pieces)
            except BreachError as breach:
                self.breach = breach
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take_controls(self) -> list[bytes]:
        """Return the control frames that came and want an answer, as they came: the last ping, and a close frame."""
        ping, self._ping = self._ping, None
        return [frame for frame in (ping, self._close) if frame is not None]

    def _read(self, data: bytes, pieces: list[bytes]) -> None:
        self._kept = b""
        position, size = 0, len(data)
        while position < size and self._close is None:
            if self._left:
                end = min(position + self._left, size)
                pieces.append(self._unmasked(data[position:end]))
            else:
                end = self._take_header(data, position, size)
                if not end:
                    self._kept = data[position:]
                    return
            position = end

    def _take_header(self, data: bytes, position: int, size: int) -> int:
        """Take in a frame's header, and the whole of a control frame; returns where it ends, 0 if it does not yet."""
        at = position + 2
        if at > size:
            return 0
        first, length = data[position], data[position + 1] & 0x7F
        self._check_start(first, length, masked=data[position + 1] >= _MASKED)
        if length > _MOST_CONTROL_BYTES:
            at += 2 if length == 126 else 8
            if at > size:
                return 0
            length = int.from_bytes(data[position + 2 : at], "big")
        if self._masked:
            at += _MASK_BYTES
        if first & 0x0F > _BINARY:
            end = at + length
            if end > size:
                return 0
            self._take_control(data[position:end])
            return end
        if length > self._largest_message_bytes - (self._message_bytes if self._in_message else 0):
            raise BreachError(CloseCode.MESSAGE_TOO_BIG, "a message that is too large")
        if at > size:
            return 0
        self._begin_frame(first, length, data[at - _MASK_BYTES : at])
        return at

    def _check_start(self, first: int, length: int, *, masked: bool) -> None:
        """Look at what the first two octets say."""
        opcode = first & 0x0F
        if first & _RESERVED or opcode not in _OPCODES:
            raise BreachError(CloseCode.PROTOCOL_ERROR, "a reserved bit or opcode")
        if masked is not self._masked:
            raise BreachError(CloseCode.PROTOCOL_ERROR, "a frame masked by the end that does not mask, or the reverse")
        if opcode > _BINARY:
            if first < _FINAL or length > _MOST_CONTROL_BYTES:
                raise BreachError(CloseCode.PROTOCOL_ERROR, "a control frame in pieces, or too long")
        elif opcode == _TEXT:
            raise BreachError(CloseCode.UNSUPPORTED_DATA, "only binary messages")
        elif (opcode == _CONTINUATION) is not self._in_message:
            raise BreachError(CloseCode.PROTOCOL_ERROR, "a continuation of no message, or a message within another")

    def _begin_frame(self, first: int, length: int, mask: bytes) -> None:
        self._message_bytes = length + (self._message_bytes if self._in_message else 0)
        self._in_message = first < _FINAL
        self._left, self._mask = length, mask

    def _take_control(self, frame: bytes) -> None:
        opcode = frame[0] & 0x0F
        if opcode == _PING:
            self._ping = frame
        elif opcode == _CLOSE:
            self._close = frame

    def _unmasked(self, payload: bytes) -> bytes:
        self._left -= len(payload)
        if not self._masked:
            return payload
        mask, turned = self._mask, len(payload) % _MASK_BYTES
        self._mask = mask[turned:] + mask[:turned]
        return apply_mask(payload, mask)
