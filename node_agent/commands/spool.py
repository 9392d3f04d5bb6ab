"""A spool: what a process writes, kept in a file with byte offsets, and read while it still grows."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK_BYTES = 64 * 1024


class Spool:
    """One output stream of one command.

    The writer appends and wakes the readers; a reader waits without polling. Bytes beyond `max_bytes`, and those that
    the disk did not take, are dropped and counted: after the first dropped byte nothing is appended any more, so that
    what is kept is a true beginning of what was written.
    """

    __slots__ = ("_descriptor", "_max_bytes", "_path", "_waiting", "dropped_bytes", "finished", "size_bytes")

    def __init__(self, path: Path, *, max_bytes: int, size_bytes: int = 0, finished: bool = False) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._descriptor: int | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self.size_bytes = size_bytes
        self.dropped_bytes = 0
        self.finished = finished

    def open(self) -> None:
        """Make the file.

        Raises:
            OSError: it cannot be made.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)

    def append(self, chunk: bytes) -> None:
        """Keep what the process wrote, as far as the bound and the disk allow, and wake the readers."""
        room = 0 if self.dropped_bytes else self._max_bytes - self.size_bytes
        kept = self._write(chunk[:room]) if room > 0 else 0
        self.dropped_bytes += len(chunk) - kept
        if kept:
            self.size_bytes += kept
            self._wake()

    def finish(self) -> None:
        """Say that nothing follows, and wake the readers."""
        self.finished = True
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        self._wake()

    def reader(self) -> "SpoolReader":
        """Return a reader of its own for one caller.

        Raises:
            OSError: the file is gone.
        """
        return SpoolReader(self, os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))

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

    def _write(self, chunk: bytes) -> int:
        if self._descriptor is None:
            return 0
        written = 0
        try:
            while written < len(chunk):
                written += os.write(self._descriptor, chunk[written:] if written else chunk)
        except OSError:  # a full disk; what was written before stays
            pass
        return written

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class SpoolReader:
    """An open spool at one reader; closing it is the reader's business (it is a context manager)."""

    __slots__ = ("_descriptor", "_spool")

    def __init__(self, spool: Spool, descriptor: int) -> None:
        self._spool = spool
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    async def chunks(self, offset: int, *, follow: bool) -> AsyncIterator[bytes]:
        """Yield what is in the spool from `offset` on; with `follow` until the command has ended, else until now."""
        end = self._spool.size_bytes
        while True:
            if follow:
                await self._spool.grown_beyond(offset)
                end = self._spool.size_bytes
            chunk = os.pread(self._descriptor, min(CHUNK_BYTES, end - offset), offset) if offset < end else b""
            if not chunk:
                return
            offset += len(chunk)
            yield chunk
