"""Reading kept outputs: bytes of the file that holds both streams of a command, without ever bridging a gap."""

import asyncio
import bisect
from collections.abc import AsyncIterator
from dataclasses import dataclass

from control_plane.fleet.node_times import Mark, MarkPage
from control_plane.outputs.cuts import Cut
from control_plane.outputs.files import OutputFiles
from control_plane.storage import kept_outputs
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.records.commands import KeptOutput

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class KeptPart:
    """The bytes that follow an offset without a gap.

    `offset` is where they begin: later than was asked for if the first bytes asked for are not kept. `missing` is from
    where to where bytes are not kept of what was asked for.
    """

    offset: int
    length_bytes: int
    size_bytes: int
    missing: tuple[int, int] | None
    place: int


class KeptStream:
    """What is kept of one stream of one command."""

    def __init__(self, files: OutputFiles, key: CommandKey, cut: Cut, *, begins_at: int) -> None:
        self._files = files
        self._key = key
        self._begins_at = begins_at
        self.cut = cut

    def part(self, offset: int, length_bytes: int | None) -> KeptPart | None:
        """Return what there is from `offset` on; None if that lies beyond the end."""
        cut = self.cut
        if offset > cut.size_bytes:
            return None
        missing = cut.missing
        if missing is not None and offset >= missing[1]:
            missing = None
        if missing is not None:
            missing = (max(offset, missing[0]), missing[1])
            offset = missing[1] if offset >= missing[0] else offset
        place, there = cut.place(offset) or (cut.kept_bytes, 0)
        length = there if length_bytes is None else min(there, length_bytes)
        return KeptPart(offset, length, cut.size_bytes, missing, self._begins_at + place)

    async def chunks(self, part: KeptPart) -> AsyncIterator[bytes]:
        """Yield the bytes of a part.

        Raises:
            OSError: the file has gone meanwhile.
        """
        place, left = part.place, part.length_bytes
        while left:
            chunk = await asyncio.to_thread(self._files.read, self._key, place, min(left, CHUNK_BYTES))
            if not chunk:
                raise OSError("the file of a kept output is too short")
            place, left = place + len(chunk), left - len(chunk)
            yield chunk


class KeptOutputs:
    """The outputs that are kept, to be read."""

    def __init__(self, database: Database, files: OutputFiles) -> None:
        self._database = database
        self._files = files

    async def find(self, key: CommandKey, stream: str) -> KeptStream | None:
        """Return what is kept of a stream, or None if nothing is."""
        async with self._database.read() as session:
            row = await kept_outputs.find(session, key)
        if row is None or row.state != kept_outputs.KEPT:
            return None
        stdout, stderr = cuts_in(row)
        if stream == "stdout":
            return KeptStream(self._files, key, stdout, begins_at=0)
        return KeptStream(self._files, key, stderr, begins_at=stdout.kept_bytes)

    async def times(self, key: CommandKey, stream: str, offset: int, most: int) -> MarkPage | None:
        """Return the marks that are kept of the bytes from `offset` on, or None if none are."""
        async with self._database.read() as session:
            row = await kept_outputs.find(session, key)
        if row is None or row.times is None:
            return None
        return _page(row.times.get(stream, []), offset, most)


def _page(marks: list[list[int]], offset: int, most: int) -> MarkPage:
    first = max(0, bisect.bisect_right(marks, offset, key=lambda mark: mark[0]) - 1)
    page, following = marks[first : first + most], marks[first + most : first + most + 1]
    times = [Mark(offset=mark[0], time=mark[1]) for mark in page]
    return MarkPage(times=times, next_offset=following[0][0] if following else None)


def cuts_in(row: KeptOutput) -> tuple[Cut, Cut]:
    """Return how the streams were cut when they were kept."""
    return (
        Cut(row.stdout_bytes, row.stdout_head_bytes, row.stdout_tail_bytes),
        Cut(row.stderr_bytes, row.stderr_head_bytes, row.stderr_tail_bytes),
    )
