"""When a command wrote what: the marks that its supervisor makes beside the output, read by the offset in that."""

import bisect
import os
from pathlib import Path
from typing import NamedTuple

from node_agent.supervisor.spool import ENTRY, TIMES_SUFFIX

# Of a year of output there are less than 60,000 marks.
MAX_TIMES_BYTES = 4 * 1024 * 1024


class Mark(NamedTuple):
    """The bytes from `offset` on were read at `time` (ms since the epoch) or later, before the next mark's."""

    offset: int
    time: int


class MarkPage(NamedTuple):
    """Some marks, and the offset of the one that follows, None where none does."""

    marks: list[Mark]
    next_offset: int | None


def read_marks(spool_path: Path, offset: int, most: int) -> MarkPage:
    """Return the marks of the bytes from `offset` on, `most` at most, from the one that is true of that byte on.

    This blocks. Where there is no file, there are no marks.
    """
    path = spool_path.with_name(spool_path.name + TIMES_SUFFIX)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return MarkPage([], None)
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(MAX_TIMES_BYTES)
    whole = content[: len(content) // ENTRY.size * ENTRY.size]  # the last one may be in the making
    marks = [Mark(*entry) for entry in ENTRY.iter_unpack(whole)]
    first = max(0, bisect.bisect_right(marks, offset, key=lambda mark: mark.offset) - 1)
    page = marks[first : first + most]
    following = marks[first + most : first + most + 1]
    return MarkPage(page, following[0].offset if following else None)
