"""Whether the event loop keeps up: what an operator is told where the relay has too little CPU for what it does."""

from collections import deque
from collections.abc import Callable
from typing import Final

from relay.background import Background
from relay.metrics import RelayMetrics
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.loop import watch_lag

LATE_SECONDS: Final = 0.05
REMEMBER_SECONDS: Final = 4.0


class LagWatch:
    """Hears how late the loop ran, as `trunkline.runtime.loop.watch_lag` tells it."""

    def __init__(self, observe: Callable[[float], None], time: Callable[[], float]) -> None:
        """Prepare it; `observe` is told everything, and `time` is the monotonic clock, in seconds."""
        self._observe = observe
        self._time = time
        self._late: deque[tuple[float, float]] = deque()

    def heard(self, lag_seconds: float) -> None:
        """Take note of one look."""
        self._observe(lag_seconds)
        if lag_seconds > LATE_SECONDS:
            self._late.append((self._time(), lag_seconds))
        self._forget()

    def remark(self) -> str | None:
        """What an operator should know; None while the loop keeps up."""
        self._forget()
        worst = max((lag_seconds for _, lag_seconds in self._late), default=None)
        return None if worst is None else f"it ran {worst:.1f} s late: the relay has too little CPU for what it does"

    def _forget(self) -> None:
        while self._late and self._late[0][0] <= self._time() - REMEMBER_SECONDS:
            self._late.popleft()


def follow_lag(
    metrics: RelayMetrics, clock: Clock, lifecycle: Lifecycle, background: Background, remark: str = "event_loop"
) -> None:
    """Count how late the loop runs, and remark it under this name."""
    lag = LagWatch(metrics.loop_lag_seconds.of().observe, clock.monotonic)
    lifecycle.remark(remark, lag.remark)
    background.spawn(watch_lag(lag.heard, clock))
