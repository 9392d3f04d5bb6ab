"""How large receive windows are: when credit goes back to the peer, and when a window grows.

Credit goes back when half of the window, or `GRANT_BYTES`, has been consumed since the last grant. A small window so
costs two small frames per window of bytes. Of a large one little more than `GRANT_BYTES` is ever held back: with
halves, a sender far away would have to wait for half a window in each round trip.

If half of the window was consumed within two round trips, the window itself was what held the sender back, and it
doubles, up to `Limits.max_window_bytes`. The growth is taken from two budgets, the link's and the process's,
and goes back to them when the stream ends. A window never shrinks while its stream lives: yamux has no frame for it.
"""

from typing import Final

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream

GRANT_BYTES: Final = 256 * 1024
"""Consumed so much, credit goes back at the latest."""


class WindowGrowth:
    """The growth of all receive windows of one session, inside its budgets."""

    __slots__ = ("_budget", "_limits", "extra_bytes")

    def __init__(self, limits: Limits, budget: CreditBudget | None) -> None:
        self._limits = limits
        self._budget = budget
        self.extra_bytes = 0
        """What the windows have grown by, together."""

    def grow(self, stream: Stream, due: int, now: float, rtt_seconds: float | None) -> int:
        """Note a grant of `due` consumed bytes at `now`, and return by how much the window grows with it, often 0."""
        stream.timed_bytes += due
        if stream.timed_bytes * 2 < stream.window_bytes:
            return 0
        elapsed = now - stream.timed_from
        stream.timed_from = now
        stream.timed_bytes = 0
        if rtt_seconds is None or elapsed > 2 * max(rtt_seconds, self._limits.tuning_floor_seconds):
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

    def _reserve(self, extra: int) -> bool:
        if self.extra_bytes + extra > self._limits.link_budget_bytes:
            return False
        if self._budget is not None and not self._budget.reserve(extra):
            return False
        self.extra_bytes += extra
        return True
