"""A disk that takes nothing until it is told to: every flush waits, and none of them may be the event loop's."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PATIENCE_SECONDS = 30.0


class StillDisk:
    """What waits for the disk, and how it is let through."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._of_the_loop = threading.get_ident()
        self._asked = asyncio.Semaphore(0)
        self._moves = threading.Semaphore(0)
        self._moves_on = False

    async def asked(self) -> None:
        """Wait for the next flush to begin; the loop turns meanwhile, and while that flush waits."""
        await asyncio.wait_for(self._asked.acquire(), PATIENCE_SECONDS)

    def move_once(self) -> None:
        """Let one flush through."""
        self._moves.release()

    def move(self) -> None:
        """Let all flushes through from here on."""
        self._moves_on = True
        self._moves.release()

    def flush(self, descriptor: int) -> None:
        """What `os.fsync` is meanwhile."""
        if threading.get_ident() == self._of_the_loop:
            raise AssertionError("the event loop waits for the disk")
        self._loop.call_soon_threadsafe(self._asked.release)
        if not self._moves_on:
            assert self._moves.acquire(timeout=PATIENCE_SECONDS)


@contextmanager
def a_disk_that_stands_still() -> Iterator[StillDisk]:
    """Have every `os.fsync` wait for the disk, of this loop's threads, until the end of the block."""
    disk = StillDisk(asyncio.get_running_loop())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", disk.flush)
        try:
            yield disk
        finally:
            disk.move()
