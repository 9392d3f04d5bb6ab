"""Standard input that follows its command: written to the command's directory by offset, so that it can be resumed.

Theory of operation. What comes is appended to a file, from which the supervisor passes it on as the program reads; what
was passed on it takes off the disk. So that a program that does not read costs no more than `AHEAD_BYTES` of the disk,
nothing more is taken while so much lies there: a caller waits for `ROOM_SECONDS`, and is then told how far it got. Of a
program that reads nothing any more, or has ended, callers are told just that, as a pipe would tell them.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from node_agent.commands.errors import CommandRefused, RefusalReason
from trunkline.runtime.threads import in_thread

AHEAD_BYTES = 64 * 1024 * 1024
ROOM_SECONDS = 5.0
# A file's size; what lies on the disk of it is bounded by `AHEAD_BYTES`.
MAX_STDIN_BYTES = 8 * 1024**4


@dataclass(frozen=True, slots=True)
class Taken:
    """How far an input has come.

    Attributes:
        size_bytes: how much of it has been taken, durably.
        whole: whether all that the caller brought is among it.
        closed: whether the program reads nothing any more.
    """

    size_bytes: int
    whole: bool
    closed: bool


class StdinContent:
    """What has come so far of one command's standard input; one caller at a time brings more.

    Attributes:
        closed: whether the program reads nothing any more.
    """

    def __init__(self, path: Path, *, ahead_bytes: int = AHEAD_BYTES, room_seconds: float = ROOM_SECONDS) -> None:
        self._path = path
        self._ahead_bytes = ahead_bytes
        self._room_seconds = room_seconds
        self._taking = asyncio.Lock()
        self._passed_bytes = 0
        self._moved = asyncio.Event()
        self.closed = False

    def size_bytes(self) -> int:
        """Return how much is here, what was passed on included."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    def passed(self, passed_bytes: int, more: bool) -> None:
        """Hear how much was passed on to the program, and whether more can be."""
        self._passed_bytes = passed_bytes
        self.closed = self.closed or not more
        self._moved.set()

    def end(self) -> None:
        """Hear that the program has ended."""
        self.closed = True
        self._moved.set()

    async def take(self, offset: int, chunks: AsyncIterator[bytes], grown: Callable[[], None]) -> Taken:
        """Write what comes, from `offset` on; what is here already is passed over.

        Args:
            offset: where in the input the chunks begin.
            chunks: what comes.
            grown: called after each step.

        Raises:
            CommandRefused: another caller is at it, there would be a gap, it is too much, or the disk is full.
        """
        if self._taking.locked():
            raise CommandRefused(RefusalReason.BUSY, "another caller brings the standard input of this command")
        async with self._taking:
            try:
                descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    return await self._written(descriptor, offset, chunks, grown)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise CommandRefused(RefusalReason.NO_STORAGE, _not_kept(error)) from None

    async def _written(
        self, descriptor: int, offset: int, chunks: AsyncIterator[bytes], grown: Callable[[], None]
    ) -> Taken:
        size = os.fstat(descriptor).st_size
        if offset > size:
            raise CommandRefused(RefusalReason.GAP, f"the standard input has {size} bytes so far: go on there")
        whole = True
        async for chunk in chunks:
            fresh = chunk[max(0, size - offset) :]
            offset += len(chunk)
            if offset > MAX_STDIN_BYTES:
                raise CommandRefused(RefusalReason.TOO_LONG, f"the standard input is more than {MAX_STDIN_BYTES} bytes")
            if fresh and not await self._room(size):
                whole = False
                break
            if fresh:
                size += await in_thread(_append, descriptor, fresh, size)
                grown()
        await in_thread(os.fsync, descriptor)
        return Taken(size, whole, self.closed)

    async def _room(self, size: int) -> bool:
        """Wait until more may lie on the disk; return whether it may now."""
        try:
            async with asyncio.timeout(self._room_seconds):
                while size - self._passed_bytes >= self._ahead_bytes and not self.closed:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return not self.closed


def _append(descriptor: int, content: bytes, offset: int) -> int:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], offset + written)
    return written


def _not_kept(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the node's disk is full, so that it cannot keep the standard input"
    return f"the node cannot keep the standard input: {error.strerror}"
