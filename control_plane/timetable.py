"""When what is next due: a timetable in memory, which one loop reads and anybody may change meanwhile."""

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Hashable
from typing import Generic, TypeVar

from trunkline.runtime.clock import Clock

K = TypeVar("K", bound=Hashable)


class Timetable(Generic[K]):
    """Keys with the times at which they are due; each has one time at most."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[K, float] = {}
        self._order: list[tuple[float, int, K]] = []
        self._numbers = itertools.count()
        self._wake = asyncio.Event()

    def set(self, key: K, delay_seconds: float) -> None:
        """Have the key due so long from now, in place of the time that it had."""
        due = self._due[key] = self._clock.monotonic() + delay_seconds
        # Keys need no order of their own: what is due at the same time goes in the order of being set.
        heapq.heappush(self._order, (due, next(self._numbers), key))
        self._wake.set()

    async def next(self) -> K:
        """Wait until a key is due, take it off, and return it; the one due first, first."""
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            while self._order and self._order[0][0] <= now:
                due, _, key = heapq.heappop(self._order)
                if self._due.get(key) == due:  # else it has another time since
                    del self._due[key]
                    return key
            pause = self._order[0][0] - now if self._order else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
