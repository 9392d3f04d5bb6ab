"""Whose turn it is to set up TLS: bounds on handshakes at once and in a second, and for each source; the rest wait.

Theory of operation. An arrival, a connection that has been accepted and has no TLS yet, is in progress or waits. It
waits if its source already has its share in progress, so that one address can be slow, or a whole fleet behind one
address translator can come back at once, while others are served past it. It waits too while the pace is spent; sources
have turns, so that one that comes with thousands gets no more of the pace than any other. Those that wait hold a socket
and no TLS state; how many may is bounded too, and the newest of the source with most of them is the one to go.

While anybody waits, there is pressure, and then who has been at it for long makes room for who has not: honest
handshakes take two round trips. But where a source completes handshakes, its others are taken to be honest as well:
many that come back at once are slow together. Without pressure each has all of its time.
"""

import math
from typing import Generic, Protocol, TypeVar

from relay.port.handshake_pace import HandshakePace
from trunkline.runtime.listening import Source


class Arriving(Protocol):
    """An arrival: where it came from, and when, in seconds of the loop's clock."""

    source: Source
    accepted_at: float
    begun_at: float


A = TypeVar("A", bound=Arriving)


class HandshakeQueue(Generic[A]):
    """The arrivals that are in progress, oldest first, and those that wait, by source."""

    def __init__(self, *, max_handshakes: int, max_per_source: int, max_waiting: int, pace: HandshakePace) -> None:
        self._max_handshakes = max_handshakes
        self._max_per_source = max_per_source
        self._max_waiting = max_waiting
        self._pace = pace
        self._counts: dict[Source, int] = {}
        self._waiting: dict[Source, dict[A, None]] = {}
        self._succeeded_at: dict[Source, float] = {}
        self.in_progress: dict[A, None] = {}
        self.waiting = 0
        self.paced = False
        """Whether somebody waits for nothing but the pace."""

    @property
    def room(self) -> int:
        """How many more may be in progress."""
        return self._max_handshakes - len(self.in_progress)

    def of(self, source: Source) -> int:
        """How many of a source are in progress or wait."""
        waiting = self._waiting.get(source)
        return self._counts.get(source, 0) + (len(waiting) if waiting is not None else 0)

    def __len__(self) -> int:
        return len(self.in_progress) + self.waiting

    def enter(self, arrival: A, now: float) -> bool:
        """Take an arrival in; whether it is in progress at once, or else waits."""
        source = arrival.source
        if self.room > 0 and source not in self._waiting and self._counts.get(source, 0) < self._max_per_source:
            # Who comes now is not served before those who wait for the pace.
            if not self.paced and self._pace.ready(now):
                self._begin(arrival, now)
                return True
            self.paced = True
        self._waiting.setdefault(source, {})[arrival] = None
        self.waiting += 1
        return False

    def next(self, now: float) -> A | None:
        """Take the next that waits and may begin; it is in progress from now on. Sources have turns."""
        if self.room <= 0:
            return None
        if not self._pace.ready(now):
            self.paced = self.waiting > 0
            return None
        for source, arrivals in self._waiting.items():
            if self._counts.get(source, 0) < self._max_per_source:
                arrival = next(iter(arrivals))
                self._leave(arrival)
                if source in self._waiting:
                    self._waiting[source] = self._waiting.pop(source)
                self._begin(arrival, now)
                return arrival
        self.paced = False
        return None

    def surplus(self) -> A | None:
        """Take out one that waits, if more wait than may: the newest of the source with most."""
        if self.waiting <= self._max_waiting:
            return None
        longest = max(self._waiting.values(), key=len)
        arrival = next(reversed(longest))
        self._leave(arrival)
        return arrival

    def end(self, arrival: A, succeeded_at: float | None = None) -> None:
        """Take out an arrival in progress: its handshake has ended, and if it has succeeded, then."""
        del self.in_progress[arrival]
        source = arrival.source
        count = self._counts[source] - 1
        if count:
            self._counts[source] = count
            if succeeded_at is not None:
                self._succeeded_at[source] = succeeded_at
        else:
            del self._counts[source]
            self._succeeded_at.pop(source, None)

    def forgo(self, arrival: A) -> None:
        """Take out one that has just begun, and counts for nothing: its peer has gone."""
        self._pace.refund()
        self.end(arrival)

    def overdue(self, accepted_before: float) -> list[A]:
        """Take out those that have waited since before then."""
        everybody = (arrival for arrivals in self._waiting.values() for arrival in arrivals)
        late = [arrival for arrival in everybody if arrival.accepted_at < accepted_before]
        for arrival in late:
            self._leave(arrival)
        return late

    def drop_waiting(self) -> list[A]:
        """Take out all that wait."""
        return self.overdue(math.inf)

    def slow(self, begun_before: float, *, all_sources: bool) -> list[A]:
        """Name those in progress since before then, of sources of which others wait, or of all; they stay in.

        Sources of which one has succeeded since then are spared.
        """
        found: list[A] = []
        for arrival in self.in_progress:
            if arrival.begun_at >= begun_before:
                break
            pressed = all_sources or arrival.source in self._waiting
            if pressed and self._succeeded_at.get(arrival.source, -math.inf) < begun_before:
                found.append(arrival)
        return found

    def _begin(self, arrival: A, now: float) -> None:
        self._pace.spend(now)
        arrival.begun_at = now
        self.in_progress[arrival] = None
        self._counts[arrival.source] = self._counts.get(arrival.source, 0) + 1

    def _leave(self, arrival: A) -> None:
        arrivals = self._waiting[arrival.source]
        del arrivals[arrival]
        self.waiting -= 1
        if not arrivals:
            del self._waiting[arrival.source]
        if not self.waiting:
            self.paced = False
