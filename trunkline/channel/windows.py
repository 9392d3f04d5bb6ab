"""How large receive windows are: when credit goes back to the peer, and when a window grows.

Credit goes back when half of the window has been consumed since the last grant, so that a sender that keeps up is
never stopped by a missing grant, and a window costs two small frames per window of bytes.

If that half was consumed within two round trips of the last grant, the window itself was what held the sender back,
and it doubles, up to `Limits.max_window_bytes`. The growth is taken from two budgets, the link's and the process's,
and goes back to them when the stream ends. A window never shrinks while its stream lives: yamux has no frame for it.
"""

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream


class WindowGrowth:
    """The growth of all receive windows of one session, inside its budgets."""

    __slots__ = ("_budget", "_limits", "extra_bytes")

    def __init__(self, limits: Limits, budget: CreditBudget | None) -> None:
        self._limits = limits
        self._budget = budget
        self.extra_bytes = 0
        """What the windows have grown by, together."""

    def grow(self, stream: Stream, now: float, rtt_seconds: float | None) -> int:
        """Note a grant at `now`, and return by how many bytes the window grows with it, often 0."""
        elapsed = now - stream.granted_at
        stream.granted_at = now
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
