"""Deadlines of equal length for many things at once, with one timer."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Deadlines(Generic[T]):
    """Calls `expire` for what was added and not discarded within `seconds`.

    Since all deadlines are equally far away, the order of adding is the order of expiring: adding and discarding
    cost a dictionary's insert and delete, and nothing is scheduled for what ends in time.
    """

    def __init__(self, seconds: float, expire: Callable[[T], None], loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._expire = expire
        self._loop = loop
        self._due: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Give `item` a deadline, a new one if it has one already."""
        self._due.pop(item, None)
        self._due[item] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._sweep)

    def discard(self, item: T) -> None:
        """Take the deadline of `item` away, if it has one."""
        self._due.pop(item, None)

    def close(self) -> None:
        """Forget everything."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _sweep(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due:
            item, due_at = next(iter(self._due.items()))
            if due_at > now:
                self._timer = self._loop.call_at(due_at, self._sweep)
                return
            del self._due[item]
            self._expire(item)
