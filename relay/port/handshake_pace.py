"""How many TLS handshakes may begin in a second: a budget that is never exceeded, in whichever second one looks.

Theory of operation. One time says when the next handshake is due if they came evenly (the generic cell rate
algorithm); a few may come before it. What may come at once and what then comes in a second add up to the budget, so
that no second, wherever it begins, has more.
"""

import math
from typing import Final

BURST_SHARE: Final = 8
"""One of so many parts of the budget may be used at once; the others come evenly."""


class HandshakePace:
    """The budget of one process. Times are seconds of one clock that never goes back."""

    __slots__ = ("_due", "_interval_seconds", "_tolerance_seconds", "sustained_per_second")

    def __init__(self, per_second: int) -> None:
        """Begin with all of the budget; `per_second` is at least 2."""
        burst = max(1, per_second // BURST_SHARE)
        self.sustained_per_second = per_second - burst
        """How many begin in each second of a long storm."""
        self._interval_seconds = 1.0 / self.sustained_per_second
        self._tolerance_seconds = (burst - 1) * self._interval_seconds
        self._due = -math.inf

    @property
    def ready_at(self) -> float:
        """When the next handshake may begin."""
        return self._due - self._tolerance_seconds

    def ready(self, now: float) -> bool:
        """Whether one may begin now."""
        return now >= self.ready_at

    def spend(self, now: float) -> None:
        """One begins."""
        self._due = max(self._due, now) + self._interval_seconds

    def refund(self) -> None:
        """One that was spent for costs nothing after all."""
        self._due -= self._interval_seconds
