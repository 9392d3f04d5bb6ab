"""The renewals that were promised: nodes are told when to renew, one after the other and not all at once.

Theory of operation. Each pair that is issued comes with a moment (the idea is that of ACME's renewal information, RFC
9773): a second of the pair's renewal window, drawn until one is found for which no renewal has been promised, or the
least busy of those drawn. While a fleet's renewals fit one into a second, no second has two; and where they do not, a
second has hardly more than the mean of its neighbours, whatever wave the fleet came in.

It costs a few draws a pair, and a number for each second that is promised: those ahead are at most 0.7 of a listen
token's longest life, however many nodes there are. It is kept in memory. After a restart the moments that were
promised before are not known, though nodes keep to them, and another control plane has a timetable of its own: what
such timetables promise for a second adds up.
"""

import math
import random

from certs.lifespan import RenewalWindow

MOST_DRAWS = 32
SWEEP_SECONDS = 600.0
FURTHEST_SECONDS = 7 * 86400.0


class RenewalTimetable:
    """How many renewals were promised for which second."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._promised: dict[int, int] = {}
        self._swept_at = -math.inf

    def __len__(self) -> int:
        """How many seconds are kept."""
        return len(self._promised)

    def promise(self, window: RenewalWindow, now: float) -> float | None:
        """Promise a moment (seconds since the epoch); None where not one whole second is in the window.

        It is the middle of a second, so that clocks which are half a second apart do not blur what was spread.
        """
        first, last = math.ceil(window.earliest), math.floor(window.latest) - 1
        if first > last:
            return None
        self._sweep(now)
        second = self._quietest(first, last)
        self._promised[second] = self._promised.get(second, 0) + 1
        return second + 0.5

    def _quietest(self, first: int, last: int) -> int:
        quietest, fewest = first, math.inf
        for _ in range(MOST_DRAWS):
            second = self._rng.randint(first, last)
            count = self._promised.get(second, 0)
            if count < fewest:
                quietest, fewest = second, count
            if not count:
                break
        return quietest

    def _sweep(self, now: float) -> None:
        """Forget what is over, and what a clock that was wrong has promised."""
        if not 0 <= now - self._swept_at < SWEEP_SECONDS:
            self._swept_at = now
            ahead = self._promised.items()
            self._promised = {moment: count for moment, count in ahead if now <= moment <= now + FURTHEST_SECONDS}
