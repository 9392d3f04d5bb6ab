"""How long to wait before the next attempt: at once, then briefly, then exponentially, always with full jitter."""

import random

BURST_SECONDS = 3.0
BURST_STEP_SECONDS = 0.1
FIRST_CEILING_SECONDS = 0.2
CAP_SECONDS = 30.0


class Backoff:
    """The delays between attempts at one thing.

    The first retry comes at once, since most failures are a peer that restarts. For `BURST_SECONDS` after it, delays
    are uniform in 0 to 100 ms, so that a link is back soon after the peer's port is open. Then each delay is uniform
    between nothing and a ceiling that doubles up to `cap_seconds` (full jitter), so that many peers spread out.
    """

    __slots__ = ("_cap_seconds", "_ceiling_seconds", "_failing_since", "_rng")

    def __init__(self, rng: random.Random, *, cap_seconds: float = CAP_SECONDS) -> None:
        self._rng = rng
        self._cap_seconds = cap_seconds
        self._failing_since: float | None = None
        self._ceiling_seconds = FIRST_CEILING_SECONDS

    def next_delay_seconds(self, now: float, *, at_least_seconds: float = 0.0) -> float:
        """Return the delay before the next attempt.

        Args:
            now: monotonic seconds.
            at_least_seconds: what the peer asked for (Retry-After). The jitter comes on top of it, so that those
                who were told the same do not come back together.
        """
        return at_least_seconds + self._jitter(now)

    def reset(self) -> None:
        """Forget the failures: an attempt succeeded."""
        self._failing_since = None
        self._ceiling_seconds = FIRST_CEILING_SECONDS

    def _jitter(self, now: float) -> float:
        if self._failing_since is None:
            self._failing_since = now
            return 0.0
        if now - self._failing_since < BURST_SECONDS:
            return self._rng.uniform(0.0, min(BURST_STEP_SECONDS, self._cap_seconds))
        ceiling = min(self._ceiling_seconds, self._cap_seconds)
        self._ceiling_seconds = min(self._ceiling_seconds * 2, self._cap_seconds)
        return self._rng.uniform(0.0, ceiling)
