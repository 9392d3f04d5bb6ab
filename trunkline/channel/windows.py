"""How large receive windows are: when credit goes back to the peer, and when a window grows.

Credit goes back when two fifths of the window, or `GRANT_BYTES`, have been consumed since the last grant. (What a
window brought before it doubled is a little less than half of it.) A small window so costs two small frames per window
of bytes. Of a large one little more than `GRANT_BYTES` is ever held back: with halves, a sender far away would have to
wait for half a window in each round trip.

If a window would be used up within `ROUND_TRIPS`, at the rate at which bytes were consumed since it was last looked, a
round trip ago at least, then the window itself is what holds the sender back, and it doubles, up to
`Limits.max_window_bytes`. (A window that holds back is used up once in a round trip, less what is held back here, and
in the one after it has grown by half.) What is granted beyond what the way itself holds waits in front of everybody
else's frames, so the round trip is that of a way without a queue (see `Pings`): windows stay within five times
what is under way, and a frame waits behind them for about as many round trips.

On a long way a window that is used up within one round trip grows fourfold, within the same five times, and so comes to
its size in half as many round trips. That it is used up is not seen before most of what it let come has come, so there
the rate is looked at again with each grant of the burst, for which `BURST_ROUND_TRIPS` are given.

The growth is taken from two budgets, the link's and the process's, and goes back to them when the stream ends. A window
never shrinks while its stream lives: yamux has no frame for it.
"""

from typing import Final

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream

GRANT_BYTES: Final = 256 * 1024
"""Consumed so much, credit goes back at the latest."""
LEAST_GIVEN_BYTES: Final = 8 * 1024
"""Of credit that was withheld and is given by parts, so much is worth a frame; less goes with what is consumed next."""
ROUND_TRIPS: Final = 2.5
"""A window that lasts no longer than so many round trips is too small."""
FAR_SECONDS: Final = 0.05
"""A way whose round trip takes so long is a long one."""
EARLY_ROUND_TRIPS: Final = 0.9
"""What has come so soon on a long way is taken for that of a whole round trip: loops are late, and not evenly."""
BURST_ROUND_TRIPS: Final = 1.25
"""So soon what a window let come at once has come, on a long way."""
BURST_GROWTH: Final = 3.5
"""Before then a window grows if it may grow by so much: by seven tenths of it, less than two grants of a small one."""
SHARED_SECONDS: Final = 0.02
"""Where other windows have grown too, the rate is that over so long at least: streams have the way in turns, by bursts,
and each would be sized as if all of it were its own."""


class WindowGrowth:
    """The growth of all receive windows of one session, inside its budgets."""

    __slots__ = ("_budget", "_limits", "extra_bytes")

    def __init__(self, limits: Limits, budget: CreditBudget | None) -> None:
        self._limits = limits
        self._budget = budget
        self.extra_bytes = 0
        """What the windows have grown by, together."""

    def grow(self, stream: Stream, due: int, now: float, rtt_seconds: float | None) -> int:
        """Note a grant of `due` consumed bytes at `now`, and return by how much the window grows with it, often 0.

        The first grant of a stream only starts the clock.
        """
        stream.timed_bytes += due
        round_trip = max(rtt_seconds or 0.0, self._limits.tuning_floor_seconds)
        elapsed = self._elapsed(stream, now, round_trip)
        if not elapsed:
            return 0
        window = stream.window_bytes
        enough = stream.timed_bytes * round_trip * ROUND_TRIPS / elapsed
        in_burst = round_trip >= FAR_SECONDS and elapsed < round_trip * BURST_ROUND_TRIPS
        if in_burst and 2 * enough < BURST_GROWTH * window:
            return 0  # the rest may be still to come
        stream.timed_from = now
        stream.timed_bytes = 0
        if rtt_seconds is None or enough < window:
            return 0
        extra = self._widen(stream, min(int(2 * enough), 4 * window)) if in_burst else 0
        return extra or self._widen(stream, 2 * window)

    def release(self, stream: Stream) -> None:
        """Give back to the budgets what an ended stream had grown by."""
        extra = stream.window_bytes - self._limits.initial_window_bytes
        if extra > 0:
            self.extra_bytes -= extra
            if self._budget is not None:
                self._budget.release(extra)

    def _elapsed(self, stream: Stream, now: float, round_trip: float) -> float:
        """How long the rate was measured for, in seconds, a round trip at least; 0 where that is too short yet."""
        elapsed = now - stream.timed_from
        if elapsed < round_trip * (EARLY_ROUND_TRIPS if round_trip >= FAR_SECONDS else 1.0):
            return 0.0
        if elapsed < SHARED_SECONDS and self._others_have_grown(stream):
            return 0.0
        return max(elapsed, round_trip)

    def _widen(self, stream: Stream, size: int) -> int:
        """Let the window grow to `size`, or to the largest; returns by how much, 0 where a budget has not got that."""
        extra = min(size, self._limits.max_window_bytes) - stream.window_bytes
        if extra <= 0 or not self._reserve(extra):
            return 0
        stream.window_bytes += extra
        return extra

    def _others_have_grown(self, stream: Stream) -> bool:
        return self.extra_bytes > stream.window_bytes - self._limits.initial_window_bytes

    def _reserve(self, extra: int) -> bool:
        if self.extra_bytes + extra > self._limits.link_budget_bytes:
            return False
        if self._budget is not None and not self._budget.reserve(extra):
            return False
        self.extra_bytes += extra
        return True
