"""An output with the time at which each of its lines was begun, in UTC, before it."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from trunkline.cli.remote_output import Output
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import OutputTime

# Marks are no closer to each other than this, so that asking more often would bring nothing.
ASK_SECONDS = 0.1
UNKNOWN = "-"

MarksFrom = Callable[[int], AsyncIterator[OutputTime]]
"""Gives the marks of the bytes from an offset on."""


class OutputTimes:
    """The marks of one output, asked for as they are needed."""

    def __init__(self, marks_from: MarksFrom, now: Callable[[], float]) -> None:
        self._marks_from = marks_from
        self._now = now
        self._marks: list[OutputTime] = []
        self._asked_at = float("-inf")

    async def know(self, offset: int) -> None:
        """Ask for what has been added, if that may tell more of the bytes from `offset` on."""
        if self._now() - self._asked_at < ASK_SECONDS:
            return
        last = self._marks[-1].offset if self._marks else -1
        with contextlib.suppress(TrunklineError):  # the output itself counts
            async for mark in self._marks_from(last if last >= 0 else offset):
                if mark.offset > last:
                    self._marks.append(mark)
        self._asked_at = self._now()

    def text(self, offset: int) -> str:
        """The time of the byte at `offset`, as far as it is known."""
        place = bisect.bisect_right(self._marks, offset, key=lambda mark: mark.offset) - 1
        if place < 0:
            return UNKNOWN
        try:
            time = datetime.fromtimestamp(self._marks[place].time / 1000, UTC)
        except (ValueError, OverflowError, OSError):  # what a node says may be no time at all
            return UNKNOWN
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TimedOutput:
    """Passes an output on with a time before each line.

    Attributes:
        offset: of the next byte; whoever leaves some out says so.
    """

    def __init__(self, output: Output, times: OutputTimes, offset: int) -> None:
        self._output = output
        self._times = times
        self._at_beginning = True
        self.offset = offset

    async def write(self, piece: bytes) -> None:
        """Pass a piece on."""
        await self._times.know(self.offset)
        shown = bytearray()
        for line in _lines(piece):
            if self._at_beginning:
                shown += f"{self._times.text(self.offset)} ".encode()
            shown += line
            self.offset += len(line)
            self._at_beginning = line.endswith(b"\n")
        self._output.write(bytes(shown))


def _lines(piece: bytes) -> list[bytes]:
    """The lines of a piece, each with its end; a carriage return ends none."""
    *lines, last = piece.split(b"\n")
    return [line + b"\n" for line in lines] + ([last] if last else [])
