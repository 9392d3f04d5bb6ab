"""How long to wait before the next attempt: at once, then briefly, then exponentially, always with full jitter."""

import random

BURST_SECONDS = 3.0
BURST_STEP_SECONDS = 0.1
FIRST_CEILING_SECONDS = 0.2
CAP_SECONDS = 30.0
FIRST_SPREAD_SECONDS = 1.0
CROWDED_SECONDS = 2.0
LASTING_SECONDS = 10.0
BRIEF_SECONDS = 1.0


class Backoff:
    """The delays between attempts at one thing.

    The first retry comes at once, since most failures are a peer that restarts. For `BURST_SECONDS` after it, delays
    are uniform in 0 to 100 ms, so that a link is back soon after the peer's port is open. Then each delay is uniform
    between nothing and a ceiling that doubles up to `cap_seconds` (full jitter), so that many peers spread out.

    Two things that a peer may tell stretch this. Over how long it wants all of its peers to spread their return: then
    no ceiling is lower than that, but for the first retry's, which is a second at most, since it may be that only this
    one's way to the peer broke. And that it is there and has no room: then there is no burst, and the ceiling begins at
    `CROWDED_SECONDS`.

    What came up and held for a while has succeeded, though it ended: over a bad way each link may live for seconds. So
    the ceiling falls to the time that it held, and what was made is there most of the time. What held for less than
    `BRIEF_SECONDS` counts as a failure, or else a peer that accepts and hangs up would be stormed.
    """

    __slots__ = ("_cap_seconds", "_ceiling_seconds", "_failing_since", "_rng")

    def __init__(self, rng: random.Random, *, cap_seconds: float = CAP_SECONDS) -> None:
        self._rng = rng
        self._cap_seconds = cap_seconds
        self._failing_since: float | None = None
        self._ceiling_seconds = FIRST_CEILING_SECONDS

    def next_delay_seconds(
        self, now: float, *, at_least_seconds: float = 0.0, spread_seconds: float = 0.0, crowded: bool = False
    ) -> float:
        """Return the delay before the next attempt.

        Args:
            now: monotonic seconds.
            at_least_seconds: what the peer asked for (Retry-After). The jitter comes on top of it, so that those
                who were told the same do not come back together.
            spread_seconds: over how long the peer wants its peers to return. `cap_seconds` does not bound it.
            crowded: the peer was there, and had no room.
        """
        return at_least_seconds + self._jitter(now, spread_seconds, crowded)

    def reset(self) -> None:
        """Forget the failures: an attempt succeeded."""
        self._failing_since = None
        self._ceiling_seconds = FIRST_CEILING_SECONDS

    def held(self, seconds: float, *, lasting_seconds: float = LASTING_SECONDS) -> None:
        """Note that an attempt had succeeded, and that what it made has ended after so long.

        After `lasting_seconds` the failures before it are forgotten.
        """
        if seconds >= lasting_seconds:
            self.reset()
        elif seconds >= BRIEF_SECONDS:
            self._ceiling_seconds = min(self._ceiling_seconds, seconds)

    def _jitter(self, now: float, spread_seconds: float, crowded: bool) -> float:
        first = self._failing_since is None
        if self._failing_since is None:
            self._failing_since = now
        if crowded:
            self._ceiling_seconds = max(self._ceiling_seconds, CROWDED_SECONDS)
        elif first:
            return self._rng.uniform(0.0, min(spread_seconds, FIRST_SPREAD_SECONDS))
        elif now - self._failing_since < BURST_SECONDS:
            return self._rng.uniform(0.0, max(min(BURST_STEP_SECONDS, self._cap_seconds), spread_seconds))
        ceiling = min(self._ceiling_seconds, self._cap_seconds)
        self._ceiling_seconds = min(self._ceiling_seconds * 2, self._cap_seconds)
        return self._rng.uniform(0.0, max(ceiling, spread_seconds))
