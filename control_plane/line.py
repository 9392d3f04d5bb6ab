"""A line before what few may do at once: whoever comes waits in order, while that is of use.

Who is refused where all places are taken comes again, over a new connection, which costs as much as what was asked for
is worth: of two thousand machines that joined at once, refusals took all of the time. So they wait, for shorter than
they would wait for an answer; and those who are told to come again are told different times, over which they spread.
One address has half of the line at most, so that whoever floods it leaves room for others.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

WAIT_SECONDS: Final = 10.0
"""Agents wait for an answer for 20 s (`control_plane.request_seconds`), half of which the work may need."""
RETRY_SECONDS: Final = (10, 60)
"""When to come again, where there is no place in the line or the wait was too long."""


class LineFull(Exception):  # noqa: N818 - a state of the world
    """There is no place at present; `retry_after_seconds` says when to come again."""

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__("the line is full")
        self.retry_after_seconds = retry_after_seconds


class Line:
    """So many have a turn at once; `told` is called with how many wait, whenever that changes."""

    def __init__(
        self,
        *,
        most_at_once: int,
        most_waiting: int,
        rng: random.Random,
        told: Callable[[float], None],
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._slots = asyncio.Semaphore(most_at_once)
        self._most_waiting = most_waiting
        self._rng = rng
        self._told = told
        self._wait_seconds = wait_seconds
        self._waiting = 0
        self._of_source: Counter[str | None] = Counter()

    @asynccontextmanager
    async def turn(self, source: str | None = None) -> AsyncIterator[None]:
        """Have a turn within the block; `source` is the address of whoever asks.

        Raises:
            LineFull: too many wait, or it took too long.
        """
        await self._wait(source)
        try:
            yield
        finally:
            self._slots.release()

    async def _wait(self, source: str | None) -> None:
        if self._slots.locked() and not self._has_place(source):
            raise self._full()
        self._count(source, 1)
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise self._full() from None
        finally:
            self._count(source, -1)

    def _has_place(self, source: str | None) -> bool:
        return self._waiting < self._most_waiting and self._of_source[source] * 2 < self._most_waiting

    def _count(self, source: str | None, change: int) -> None:
        self._waiting += change
        self._of_source[source] += change
        if not self._of_source[source]:
            del self._of_source[source]
        self._told(self._waiting)

    def _full(self) -> LineFull:
        first, last = RETRY_SECONDS
        return LineFull(math.ceil(self._rng.uniform(first, last)))
