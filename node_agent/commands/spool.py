"""A spool as the agent sees it: a file that a supervisor writes, read by offset while it still grows."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

from trunkline.runtime.threads import in_thread

CHUNK_BYTES = 64 * 1024


class Spool:
    """One output stream of one command: how far it has grown, and who waits for more, without polling."""

    __slots__ = ("_path", "_waiting", "finished", "size_bytes")

    def __init__(self, path: Path, *, size_bytes: int = 0, finished: bool = False) -> None:
        self._path = path
        self._waiting: set[asyncio.Future[None]] = set()
        self.size_bytes = size_bytes
        self.finished = finished

    def grown(self, size_bytes: int) -> None:
        """Hear how much there is by now, and wake the readers."""
        if size_bytes > self.size_bytes:
            self.size_bytes = size_bytes
            self._wake()

    def finish(self) -> None:
        """Hear that nothing follows, and wake the readers."""
        self.finished = True
        self._wake()

    def reader(self) -> "SpoolReader":
        """Return a reader of its own for one caller."""
        return SpoolReader(self, self._path)

    async def grown_beyond(self, offset: int) -> bool:
        """Wait until there are bytes after `offset`; return whether there are, False being the end."""
        while self.size_bytes <= offset and not self.finished:
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(waiting)
            try:
                await waiting
            finally:
                self._waiting.discard(waiting)
        return self.size_bytes > offset

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class SpoolReader:
    """A spool at one reader; closing it is the reader's business (it is a context manager).

    The file is opened once there is something in it: until then it may not have been made.
    """

    __slots__ = ("_descriptor", "_path", "_spool")

    def __init__(self, spool: Spool, path: Path) -> None:
        self._spool = spool
        self._path = path
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    async def chunks(self, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield what is in the spool from `offset` on; with `follow` until the command has ended, else until now.

        Raises:
            OSError: the file is gone, or cannot be read.
        """
        end = self._spool.size_bytes
        while True:
            if follow:
                await self._spool.grown_beyond(offset)
                end = self._spool.size_bytes
            chunk = await self._read(min(CHUNK_BYTES, end - offset), offset) if offset < end else b""
            if not chunk:
                return
            offset += len(chunk)
            yield chunk

    async def _read(self, size_bytes: int, offset: int) -> bytes:
        """Read at once what is in memory, as what was written just now is; wait for the disk in a thread."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        there = _in_memory(self._descriptor, size_bytes, offset)
        return there or await in_thread(os.pread, self._descriptor, size_bytes, offset)


def _in_memory(descriptor: int, size_bytes: int, offset: int) -> bytes:
    """Return what can be read without waiting for the disk, or a part; nothing where the file system cannot say."""
    content = bytearray(size_bytes)
    try:
        size_bytes = os.preadv(descriptor, [content], offset, os.RWF_NOWAIT)
    except OSError:  # it would wait, or there is no such question here
        return b""
    return bytes(memoryview(content)[:size_bytes])
