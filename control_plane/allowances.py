"""What each node or relay may have written down: one that lies cannot fill tables from which nothing is deleted."""

import math

from control_plane.errors import ApiError, ErrorCode
from trunkline.runtime.clock import Clock

BURST_SECONDS = 600.0
"""A directory with thousands of files is copied at once, and each file is a record."""
FIRST_SWEEP = 1024


class Allowances:
    """A token bucket for each node and relay: so many records a second, with `burst_seconds` worth of them at once."""

    def __init__(self, records_per_second: float, clock: Clock, *, burst_seconds: float = BURST_SECONDS) -> None:
        self._per_second = records_per_second
        self._most = records_per_second * burst_seconds
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}
        self._sweep_at = FIRST_SWEEP

    def spend(self, node_id: str, records: int = 1) -> None:
        """Take the room for so many records of a node or relay.

        Raises:
            ApiError: there is not that much left (RESOURCE_EXHAUSTED); nothing was taken.
        """
        now = self._clock.monotonic()
        left, wanted = self._left_at(node_id, now), min(float(records), self._most)
        if left < wanted:
            wait_seconds = math.ceil((wanted - left) / self._per_second)
            message = "more is asked for in this name, or written down, than is allowed: send it later"
            raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, message, retry_after_seconds=wait_seconds)
        self._left[node_id] = left - wanted, now
        if len(self._left) >= self._sweep_at:
            self._sweep(now)

    def _left_at(self, node_id: str, now: float) -> float:
        left, then = self._left.get(node_id, (self._most, now))
        return min(self._most, left + (now - then) * self._per_second)

    def _sweep(self, now: float) -> None:
        """Forget the nodes that have all of their room: they are like new ones."""
        self._left = {one: held for one, held in self._left.items() if self._left_at(one, now) < self._most}
        self._sweep_at = max(FIRST_SWEEP, 2 * len(self._left))
