"""Where the output of remote commands goes: to our own standard output and error, with or without a node's name.

A pipe or file gets the node's bytes as they are. On a terminal, control characters are shown in caret form (`^[`)
instead of obeyed, since a node, or whoever wrote a file on it, must not steer an operator's terminal. With several
nodes each line begins with the node's name and arrives whole, and a carriage return is shown too, so that one node
cannot overwrite what another said.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from trunkline.cli.exits import printable
from trunkline.cli.patient_output import Destination, passed

LONGEST_LINE_BYTES = 65_536
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]")
_CONTROL_BUT_RETURN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
_LEAD_OF_CONTROL = b"\xc2"


class Output(Protocol):
    """Where one stream of one command goes, piece by piece."""

    def write(self, piece: bytes) -> None:
        """Take a piece."""
        ...

    def close(self) -> None:
        """Pass what was held back."""
        ...

    async def passed(self) -> None:
        """Wait until the reader has taken what was written; raises OSError if it takes no more."""
        ...


class PlainOutput:
    """Passes bytes through."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def write(self, piece: bytes) -> None:
        """Pass a piece on at once."""
        self._destination.write(piece)
        self._destination.flush()

    def close(self) -> None:
        """Nothing is held back."""

    async def passed(self) -> None:
        """See `Output`."""
        await passed(self._destination)


class ShownOutput:
    """Passes bytes to a terminal, control characters shown; tabs, ends of lines and carriage returns stay."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._held = b""

    def write(self, piece: bytes) -> None:
        """Pass a piece on, but for the first half of what may be a control character."""
        piece, self._held = self._held + piece, b""
        if piece.endswith(_LEAD_OF_CONTROL):
            piece, self._held = piece[:-1], _LEAD_OF_CONTROL
        self._destination.write(_CONTROL_BUT_RETURN.sub(_caret, piece))
        self._destination.flush()

    def close(self) -> None:
        """Show what was held back: the other half may be the first byte of another output on the same terminal."""
        self._destination.write(b"\\xc2" if self._held else b"")
        self._destination.flush()
        self._held = b""

    async def passed(self) -> None:
        """See `Output`."""
        await passed(self._destination)


class PrefixedOutput:
    """Passes whole lines, each behind a prefix; a line longer than `LONGEST_LINE_BYTES` is broken."""

    def __init__(self, destination: Destination, prefix: bytes, *, neutralise: bool) -> None:
        self._destination = destination
        self._prefix = prefix
        self._neutralise = neutralise
        self._held = b""

    def write(self, piece: bytes) -> None:
        """Pass the lines that are complete."""
        *lines, self._held = (self._held + piece).split(b"\n")
        for line in lines:
            self._write_line(line)
        while len(self._held) > LONGEST_LINE_BYTES:
            self._write_line(self._held[:LONGEST_LINE_BYTES])
            self._held = self._held[LONGEST_LINE_BYTES:]
        self._destination.flush()

    def close(self) -> None:
        """Pass a last line that has no end."""
        if self._held:
            self._write_line(self._held)
            self._held = b""
            self._destination.flush()

    async def passed(self) -> None:
        """See `Output`."""
        await passed(self._destination)

    def _write_line(self, line: bytes) -> None:
        shown = neutralised(line.removesuffix(b"\r")) if self._neutralise else line
        self._destination.write(self._prefix + shown + b"\n")


OutputFor = Callable[[str, str], Output]
"""Gives the output for a node's name and one of its streams."""


def neutralised(line: bytes) -> bytes:
    """A line whose control characters are shown instead of obeyed; tabs stay."""
    return _CONTROL.sub(_caret, line)


def output_to(destination: Destination) -> PlainOutput | ShownOutput:
    """The output of one node's command: bytes, shown as text if the destination is a terminal."""
    return ShownOutput(destination) if destination.isatty() else PlainOutput(destination)


def outputs_for(nodes: list[str], stdout: Destination, stderr: Destination) -> OutputFor:
    """The outputs of these nodes' commands: as they are for one, prefixed and aligned for several."""
    width = max((len(node) for node in nodes), default=0)

    def output(node: str, stream: str) -> Output:
        destination = stdout if stream == "stdout" else stderr
        if len(nodes) == 1:
            return output_to(destination)
        prefix = f"{printable(node).ljust(width)} | ".encode()
        return PrefixedOutput(destination, prefix, neutralise=destination.isatty())

    return output


def _caret(match: re.Match[bytes]) -> bytes:
    code = match[0][-1]
    if len(match[0]) == 2:
        return b"\\x%02x" % code
    return b"^?" if code == 0x7F else b"^" + bytes([code + 0x40])
