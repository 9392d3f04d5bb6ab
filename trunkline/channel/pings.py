"""The pings of one session: round trips measured, and a silent peer noticed.

The peer is asked for a sign of life when nothing has arrived for `keepalive_seconds`. Anything that arrives is one,
not only the answer. A peer from which nothing at all arrives within the timeout after that is gone. If the deadline is
handled very late, then it was this process that stood still, and the peer gets the time once more.

The round trip that counts is that of the way itself, without what waits on it: the shortest seen, which is let rise
slowly, since a way can become longer. What a link itself has put on its way would otherwise pass for distance. So it
is measured when a link that was quiet is first used, and now and then while windows are in use; it rises only as long
as it is looked at. What is measured on a quiet link is the way itself, and is taken as it is: a way that has become
longer is known by then, where the slow rise would take minutes, with windows too small for it all the while. A ping
that only measures is no question whether the peer is there: it has no deadline.
"""

from typing import Final

from trunkline.channel.limits import Limits
from trunkline.channel.streams import NEVER

MEASURE_SECONDS: Final = 0.5
"""While windows are in use the round trip is measured so often: far below the pings that any peer of ours bears."""
QUIET_MEASURE_SECONDS: Final = 60.0
"""Where nothing is under way it is measured no more often than this."""
RISE_PER_SECOND: Final = 0.03
RISE_SECONDS: Final = 1.0
"""From one answer to the next the round trip rises for no longer than this."""


class Pings:
    """Pings in flight, the shortest round trip, and the time at which something is due."""

    __slots__ = (
        "_answered_at", "_excused", "_in_flight", "_keepalive", "_limits", "_measured_at", "_measuring", "_next_id",
        "_quiet_id", "heard_at", "rtt_seconds",
    )  # fmt: skip

    def __init__(self, limits: Limits, keepalive_seconds: float | None, now: float) -> None:
        self._limits = limits
        self._keepalive = keepalive_seconds
        self._in_flight: dict[int, float] = {}
        self._next_id = 0
        self._excused = False
        self._measuring: int | None = None
        self._quiet_id: int | None = None
        self._measured_at = NEVER
        self._answered_at = now
        self.heard_at = now
        """When the last bytes arrived."""
        self.rtt_seconds: float | None = None
        """The round trip: falls at once, and rises by `RISE_PER_SECOND`, or at once where the link was quiet. None
        before the first answer."""

    def __len__(self) -> int:
        return len(self._in_flight)

    def start(self, now: float) -> int:
        """Note a ping sent at `now`; returns the value that its frame carries. The oldest of too many is dropped."""
        quiet = self._keepalive is not None and now >= self.heard_at + self._keepalive
        ping_id = self._take_id(quiet)
        if len(self._in_flight) >= self._limits.max_pings_in_flight:
            del self._in_flight[next(iter(self._in_flight))]
        self._in_flight[ping_id] = now
        return ping_id

    def measurement_due(self, now: float, interval_seconds: float) -> bool:
        """Whether the round trip may be measured again: the last measurement has ended, and began long enough ago."""
        return self._measuring is None and now - self._measured_at >= interval_seconds

    def measure(self, now: float, *, quiet: bool = False) -> int:
        """Note a ping sent at `now` that only measures; returns the value that its frame carries.

        `quiet` says that nothing is under way that its answer would have to wait for.
        """
        self._measured_at = now
        self._measuring = ping_id = self._take_id(quiet)
        return ping_id

    def _take_id(self, quiet: bool) -> int:
        ping_id = self._next_id
        self._next_id = ping_id + 1 & 0xFFFFFFFF
        if quiet:
            self._quiet_id = ping_id
        return ping_id

    def answered(self, ping_id: int, now: float) -> float | None:
        """Note an answer; returns its round trip in seconds, or None if no such ping is in flight."""
        sent_at = self._in_flight.pop(ping_id, None)
        if sent_at is None:
            if ping_id != self._measuring:
                return None
            sent_at, self._measuring = self._measured_at, None
        self._excused = False
        rtt, rising_seconds = now - sent_at, min(now - self._answered_at, RISE_SECONDS)
        self._answered_at = now
        known = self.rtt_seconds
        if known is None or ping_id == self._quiet_id:
            self.rtt_seconds = rtt
        else:
            self.rtt_seconds = min(rtt, known * (1 + RISE_PER_SECOND * rising_seconds) + 1e-6)
        return rtt

    def deadline(self) -> float | None:
        """When a ping is due, or an answer overdue."""
        if self._in_flight:
            return max(self.heard_at, next(iter(self._in_flight.values()))) + self._limits.ping_timeout_seconds
        return None if self._keepalive is None else self.heard_at + self._keepalive

    def keepalive_due(self, now: float) -> bool:
        """Whether the peer should be asked for a sign of life now."""
        return not self._in_flight and self._keepalive is not None and now >= self.heard_at + self._keepalive

    def peer_is_silent(self, now: float) -> bool:
        """Whether the peer has not answered in time."""
        deadline = self.deadline()
        if not self._in_flight or deadline is None or now < deadline:
            return False
        if now - deadline > self._limits.ping_timeout_seconds / 2 and not self._excused:
            self._excused = True
            self.heard_at = now
            return False
        return True
