"""Deadlines of connections and calls: one coarse sweep for all of them, in place of a timer for each.

A deadline is an attribute that its owner sets by plain assignment, `NEVER` when nothing is waited for; the sweep looks
at all of them four times a second. So a deadline costs a call nothing, and comes up to one interval late, and where a
thousand come at once, the last of them `SPREAD_SECONDS` later: they are acted on a few at a time (see `Spreading`).
"""

import asyncio
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, Protocol

from relay.bounds.spreading import Spreading

NEVER: Final = float("inf")
SWEEP_INTERVAL_SECONDS: Final = 0.25
RATE_INTERVAL_SECONDS: Final = 5.0
"""Over which the rate of a request's content is measured."""


class Watched(Protocol):
    """Something with a deadline, in seconds of the loop's clock."""

    deadline: float

    def deadline_reached(self, now: float) -> None:
        """Act, and set the next deadline; must not raise."""
        ...


class Deadlines:
    """The sweep. `now` is the loop's time at the last sweep, `date` the wall clock's for a Date field."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wall: Callable[[], float]) -> None:
        self._loop = loop
        self._wall = wall
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due: Spreading[Watched] = Spreading(loop, self._act)
        self.date = b""
        self._read_clocks()

    def start(self) -> None:
        """Begins to sweep."""
        self._timer = self._loop.call_later(SWEEP_INTERVAL_SECONDS, self._sweep)
        self._read_clocks()

    def stop(self) -> None:
        """Ends it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due.drop()

    def watch(self, owner: Watched) -> None:
        """Looks at the owner's deadline from now on."""
        self._watched.add(owner)

    def forget(self, owner: Watched) -> None:
        """Looks at it no more."""
        self._watched.discard(owner)

    def _read_clocks(self) -> None:
        self.now = self._loop.time()
        date = formatdate(self._wall(), usegmt=True).encode("ascii")
        # The same object while it is the same second: what was made with it is compared by identity.
        if date != self.date:
            self.date = date

    def _sweep(self) -> None:
        self._timer = self._loop.call_later(SWEEP_INTERVAL_SECONDS, self._sweep)
        self._read_clocks()
        now = self.now
        self._due.add([owner for owner in self._watched if owner.deadline <= now])

    def _act(self, owner: Watched) -> None:
        """Tells an owner, whose deadline may have moved away by now."""
        if owner.deadline <= self.now and owner in self._watched:
            owner.deadline_reached(self.now)
