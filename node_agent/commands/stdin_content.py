"""Standard input that follows its command: written to the command's directory by offset, so that it can be resumed."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from node_agent.commands.errors import CommandRefused, RefusalReason

MAX_STDIN_BYTES = 16 * 1024**3


class StdinContent:
    """What has come so far of one command's standard input; one caller at a time brings more."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taking = asyncio.Lock()

    def size_bytes(self) -> int:
        """Return how much is here."""
        try:
            return self._path.stat().st_size
        except FileNotFoundError:
            return 0

    async def take(self, offset: int, chunks: AsyncIterator[bytes], grown: Callable[[], None]) -> int:
        """Write what comes, from `offset` on; what is here already is passed over. Return the size, which is durable.

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
                descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    return await _written(descriptor, offset, chunks, grown)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise CommandRefused(RefusalReason.NO_STORAGE, _not_kept(error)) from None


async def _written(descriptor: int, offset: int, chunks: AsyncIterator[bytes], grown: Callable[[], None]) -> int:
    size = os.fstat(descriptor).st_size
    if offset > size:
        raise CommandRefused(RefusalReason.GAP, f"the standard input has {size} bytes so far: go on there")
    async for chunk in chunks:
        fresh = chunk[max(0, size - offset) :]
        offset += len(chunk)
        if offset > MAX_STDIN_BYTES:
            raise CommandRefused(RefusalReason.TOO_LONG, f"the standard input is more than {MAX_STDIN_BYTES} bytes")
        if fresh:
            size += await asyncio.to_thread(_append, descriptor, fresh, size)
            grown()
    await asyncio.to_thread(os.fsync, descriptor)
    return size


def _append(descriptor: int, content: bytes, offset: int) -> int:
    written = 0
    while written < len(content):
        written += os.pwrite(descriptor, content[written:], offset + written)
    return written


def _not_kept(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the node's disk is full, so that it cannot keep the standard input"
    return f"the node cannot keep the standard input: {error.strerror}"
