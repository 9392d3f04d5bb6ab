"""Many things that are due at once, done a few at a time: between them everybody else on the loop has turns.

Theory of operation. A thousand connections may come to their deadline at once, and each costs some 0.1 ms to close:
done in one turn of the loop, they would keep every call waiting for a tenth of a second. So a few are done at once,
and a few more every `STEP_SECONDS`: time passes in between, lest what each of them leads to (its goodbye's own
deadline, say) comes to all of them at once again. However many there are, the last is done in `SPREAD_SECONDS` and the
time that the acts themselves take.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeVar

AT_ONCE: Final = 4
STEP_SECONDS: Final = 0.002
STEPS: Final = 100
SPREAD_SECONDS: Final = STEPS * STEP_SECONDS

T = TypeVar("T")


class Spreading(Generic[T]):
    """Does the same to each of many."""

    def __init__(self, loop: asyncio.AbstractEventLoop, act: Callable[[T], None]) -> None:
        """Begin with none; `act` is called with each, and must not raise."""
        self._loop = loop
        self._act = act
        self._due: dict[T, None] = {}
        self._at_once = AT_ONCE
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """How many are still to be acted on."""
        return len(self._due)

    def add(self, due: Iterable[T]) -> None:
        """Act on these, behind those that are still to be acted on: some now, the rest soon; on each once."""
        least = self._at_once if self._due else AT_ONCE
        self._due.update(dict.fromkeys(due))
        self._at_once = max(least, -(-len(self._due) // STEPS))
        if self._timer is None:
            self._step()

    def finish(self) -> None:
        """Act on all that are left, now."""
        self._stop()
        while self._due:
            self._act(self._take())

    def drop(self) -> None:
        """Act on none of those that are left."""
        self._stop()
        self._due.clear()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self) -> T:
        """Returns the one that has waited longest, which waits no more."""
        first = next(iter(self._due))
        del self._due[first]
        return first

    def _step(self) -> None:
        self._timer = None
        for _ in range(self._at_once):
            if self._due:
                self._act(self._take())
        if self._due:
            self._timer = self._loop.call_later(STEP_SECONDS, self._step)
