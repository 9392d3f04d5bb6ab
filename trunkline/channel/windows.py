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

The growth is taken from two budgets, the link's and the process's, and goes back to them when the stream ends. A window
never shrinks while its stream lives: yamux has no frame for it.
"""

from typing import Final

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream

GRANT_BYTES: Final = 256 * 1024
"""Consumed so much, credit goes back at the latest."""
ROUND_TRIPS: Final = 2.5
"""A window that lasts no longer than so many round trips is too small."""
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
        elapsed = now - stream.timed_from
        round_trip = max(rtt_seconds or 0.0, self._limits.tuning_floor_seconds)
        if elapsed < round_trip or (elapsed < SHARED_SECONDS and self._others_have_grown(stream)):
            return 0
        consumed = stream.timed_bytes
        stream.timed_from = now
        stream.timed_bytes = 0
        if rtt_seconds is None or consumed * round_trip * ROUND_TRIPS < stream.window_bytes * elapsed:
            return 0
        extra = min(stream.window_bytes, self._limits.max_window_bytes - stream.window_bytes)
        if extra <= 0 or not self._reserve(extra):
            return 0
        stream.window_bytes += extra
        return extra

    def release(self, stream: Stream) -> None:
        """Give back to the budgets what an ended stream had grown by."""
        extra = stream.window_bytes - self._limits.initial_window_bytes
        if extra > 0:
            self.extra_bytes -= extra
            if self._budget is not None:
                self._budget.release(extra)

    def _others_have_grown(self, stream: Stream) -> bool:
        return self.extra_bytes > stream.window_bytes - self._limits.initial_window_bytes

    def _reserve(self, extra: int) -> bool:
        if self.extra_bytes + extra > self._limits.link_budget_bytes:
            return False
        if self._budget is not None and not self._budget.reserve(extra):
            return False
        self.extra_bytes += extra
        return True
