"""The two clocks of a process: the wall's, and the one that never jumps."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where asynchronous code reads the time; pure code takes `now` as an argument instead."""

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch; it may jump."""
        ...

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back; only differences mean anything."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    # The functions themselves: the relay reads the wall clock for each call.
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class ManualClock:
    """A clock that moves only when it is told to, for tests and simulations."""

    __slots__ = ("_monotonic", "_now")

    def __init__(self, now: float = 1_800_000_000.0, monotonic: float = 1_000.0) -> None:
        self._now = now
        self._monotonic = monotonic

    def now(self) -> float:
        """Return the wall clock in seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds of the monotonic clock."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let both clocks pass `seconds`, which must not be negative."""
        if seconds < 0:
            raise ValueError("time only passes forwards; use jump() for the wall clock")
        self._now += seconds
        self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forwards or back by `seconds`, as an operator or NTP would."""
        self._now += seconds
