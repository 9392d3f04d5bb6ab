"""A moment drawn at random within a time that is given to many, so that they do not all come at once."""

import asyncio
import random
from collections.abc import Callable


class DrawnMoment:
    """At most one moment that is to come, at which something is done. Asked for again, it is put off by nothing."""

    def __init__(self, rng: random.Random) -> None:
        """Begin without one."""
        self._rng = rng
        self._waiting: asyncio.TimerHandle | None = None

    @property
    def at(self) -> float | None:
        """When it is, by the loop's clock; None while there is none."""
        return None if self._waiting is None else self._waiting.when()

    def draw(self, within_seconds: float, act: Callable[[], None]) -> float | None:
        """Have `act` called within this time; returns after how many seconds.

        None if a moment that was drawn before is within this time as well: it stands, with what is to be done then.
        """
        loop = asyncio.get_running_loop()
        if self.at is not None and self.at <= loop.time() + within_seconds:
            return None
        self.cancel()
        delay_seconds = self._rng.uniform(0.0, within_seconds)
        self._waiting = loop.call_later(delay_seconds, self._come, act)
        return delay_seconds

    def cancel(self) -> None:
        """Do nothing, at no moment."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _come(self, act: Callable[[], None]) -> None:
        self._waiting = None
        act()
