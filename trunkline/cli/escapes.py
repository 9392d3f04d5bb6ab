"""The keys by which one leaves a remote terminal: `~.` at the beginning of a line, as with ssh."""

from __future__ import annotations

ESCAPE = ord("~")
LEAVE = ord(".")
_LINE_ENDS = b"\r\n"


class EscapeFilter:
    """Passes on what is typed, and notices the escape; `~~` is one `~`."""

    def __init__(self) -> None:
        self._at_line_start = True
        self._held = False

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What is to be sent of these bytes, and whether the user leaves; what is behind that is dropped."""
        passed = bytearray()
        for byte in typed:
            if self._held:
                self._held = False
                if byte == LEAVE:
                    return bytes(passed), True
                passed += b"~" if byte == ESCAPE else bytes([ESCAPE, byte])
            elif self._at_line_start and byte == ESCAPE:
                self._held = True
                continue
            else:
                passed.append(byte)
            self._at_line_start = byte in _LINE_ENDS
        return bytes(passed), False
