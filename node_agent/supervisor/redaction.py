"""Redaction: a command's secrets are masked in what it writes, also where they are cut by the reads of its output.

Theory of operation. Every place where a pattern occurs is found, overlapping ones too; places that overlap are masked
as one. What is at the end of the output so far, and could be the beginning of a pattern, is held back until it is clear
that it is none. However the output is cut into pieces, the result is the same.

What is looked for: each value of at least `MIN_BYTES` bytes (shorter ones would mask half of every text), without the
line ends at its own end; each line of a value of several lines. Of a value longer than `BLOCK_BYTES` every block of
that length is looked for by itself, which bounds what is held back. A secret that the command encodes, splits or
transforms is not found.
"""

from collections.abc import Iterable, Iterator

MASK = b"[redacted]"
MIN_BYTES = 4
BLOCK_BYTES = 4096
MOST_PATTERNS = 256


def patterns_of(values: Iterable[bytes]) -> tuple[bytes, ...]:
    """Return what to look for: the values' blocks first, then single lines as far as `MOST_PATTERNS` reaches."""
    blocks: dict[bytes, None] = {}
    lines: dict[bytes, None] = {}
    for value in values:
        trimmed = value.rstrip(b"\r\n")
        blocks |= dict.fromkeys(_blocks(trimmed))
        if b"\n" in trimmed:
            for line in trimmed.splitlines():
                lines |= dict.fromkeys(_blocks(line.strip()))
    found = [pattern for pattern in {**blocks, **lines} if len(pattern) >= MIN_BYTES]
    return tuple(found[: max(MOST_PATTERNS, len(blocks))])


def _blocks(value: bytes) -> list[bytes]:
    return [value[start : start + BLOCK_BYTES] for start in range(0, len(value), BLOCK_BYTES)]


def _occurrences(content: bytes, pattern: bytes) -> Iterator[tuple[int, int]]:
    """Yield what occurrences of a pattern cover, one place for those that follow each other at equal distances.

    A pattern like a row of dashes overlaps itself, and may occur at every byte; but where two occurrences overlap
    at one distance, further ones can only follow at that, or after about half its length. So places are few.
    """
    start = content.find(pattern)
    while start >= 0:
        stop, last = start + len(pattern), start
        following = content.find(pattern, start + 1)
        if start < following < stop:
            step = following - start
            last = following + (_repeats_until(content, following + len(pattern), step) - stop - step) // step * step
            stop, following = last + len(pattern), content.find(pattern, last + 1)
        yield start, stop
        start = following


def _repeats_until(content: bytes, position: int, step: int) -> int:
    """Return the first place from `position` on whose byte is not the one that is `step` before it."""
    stride = step
    while position < len(content):
        stride = min(stride, len(content) - position)
        if content[position : position + stride] == content[position - step : position - step + stride]:
            position += stride
            stride *= 2
        elif stride == 1:
            break
        else:
            stride //= 2
    return position


class Redactor:
    """Masks patterns in a stream of bytes."""

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = tuple(pattern for pattern in patterns if pattern)
        self._longest = max((len(pattern) for pattern in self._patterns), default=0)
        self._held = b""
        # How many of the held bytes belong to a place for which the mask has been written already.
        self._masked = 0

    def feed(self, chunk: bytes) -> bytes:
        """Return what is certain of the output so far, masked."""
        content = self._held + chunk
        return self._settle(content, self._undecided_from(content))

    def finish(self) -> bytes:
        """Return what was held back: nothing follows that could complete it."""
        return self._settle(self._held, len(self._held))

    def _settle(self, content: bytes, end: int) -> bytes:
        pieces, position = [], self._masked
        for start, stop in self._places(content):
            if start >= end:
                break
            pieces.append(content[position:start])
            if not (start == 0 and self._masked):
                pieces.append(MASK)
            position = stop
        pieces.append(content[position:end])
        self._held, self._masked = content[end:], max(0, position - end)
        return b"".join(pieces)

    def _places(self, content: bytes) -> list[tuple[int, int]]:
        """Return where to mask, in order; places that overlap are one."""
        found = [(0, self._masked)] if self._masked else []
        for pattern in self._patterns:
            found.extend(_occurrences(content, pattern))
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(found):
            if merged and start < merged[-1][1]:
                merged[-1] = merged[-1][0], max(stop, merged[-1][1])
            else:
                merged.append((start, stop))
        return merged

    def _undecided_from(self, content: bytes) -> int:
        """Return the first position from which the rest of the content is the beginning of a pattern."""
        first = len(content)
        for pattern in self._patterns:
            start = content.find(pattern[0], max(0, len(content) - len(pattern) + 1))
            while 0 <= start < first:
                if pattern[len(content) - start - 1] == content[-1] and pattern.startswith(content[start:]):
                    first = start
                    break
                start = content.find(pattern[0], start + 1)
        return first
