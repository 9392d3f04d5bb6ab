"""Which connection ends where the relay has all that it may have, and somebody else wants its place.

Whoever has no credential can keep a connection for long all the same, by calls that are refused, and who has one token
of one node can keep any number, by a call now and then; with one address either could come to have them all. So a
connection on which no call was admitted for `limits.head_seconds` is there only for as long as nobody else wants its
place, the oldest first; and where there is none of these, one that waits for its next call. Its sender connects anew,
as it would behind `limits.idle_seconds`. Calls in progress, and links, keep their places.

Who comes with more connections a second than can be in their first `limits.head_seconds` at once would have all of them
nevertheless, each too new to go. So those of an address that have shown nothing are counted, and it gets no further one
where it has more than are left (`Acceptor`), unless one of them that is not new makes room.

Those that are idle are looked for among some connections at a time, in turn, lest thousands hold up everybody else; of
these the longest idle go first.
"""

from collections.abc import Collection
from itertools import islice
from typing import Final

from relay.bounds.deadlines import NEVER, SWEEP_INTERVAL_SECONDS
from relay.doors.front_door import FrontDoor
from relay.senders.connection import SenderConnection
from trunkline.runtime.listening import Source

LEAST_IDLE_SECONDS: Final = 1.0
"""One that ended its call a moment ago may well be about to make the next."""
LOOKED_AT: Final = 512
"""At most every `SWEEP_INTERVAL_SECONDS`."""


class MakingRoom:
    """Knows who goes next."""

    def __init__(self, front: FrontDoor, connections: Collection[SenderConnection]) -> None:
        """Begin without any; `connections` are those that there are at each moment."""
        self._front = front
        self._connections = connections
        self._strangers: dict[SenderConnection, float] = {}
        """Those on which no call was admitted, oldest first, and until when each has time to bring one."""
        self._of_source: dict[Source, int] = {}
        self._idle: dict[SenderConnection, float] = {}
        """Those that were found idle, and since when, the longest idle first."""
        self._look_at = 0.0
        self._looked_at = 0

    def came(self, connection: SenderConnection) -> None:
        """A connection is there, of whom nobody knows yet."""
        self._strangers[connection] = self._front.deadlines.now + self._front.limits.head_seconds
        self._of_source[connection.source] = self.strangers_of(connection.source) + 1

    def proved(self, connection: SenderConnection) -> None:
        """A connection has shown a credential: it is no stranger's."""
        self._count_no_more(connection)

    def gone(self, connection: SenderConnection) -> None:
        """A connection has ended, or a link has taken it over."""
        self._count_no_more(connection)
        self._idle.pop(connection, None)

    def _count_no_more(self, connection: SenderConnection) -> None:
        if self._strangers.pop(connection, None) is not None:
            source = connection.source
            count = self._of_source.pop(source) - 1
            if count:
                self._of_source[source] = count

    def strangers_of(self, source: Source) -> int:
        """How many connections of an address have shown no credential."""
        return self._of_source.get(source, 0)

    def make(self, *, of_strangers: bool = False) -> bool:
        """Ends one connection, `of_strangers` only if need be; returns whether there is one that may be ended."""
        going = self._stranger() or (None if of_strangers else self._idle_one())
        if going is None:
            return False
        self.gone(going)
        self._front.deadline_passed("room")
        going.abort()
        return True

    def _stranger(self) -> SenderConnection | None:
        stranger, until = next(iter(self._strangers.items()), (None, NEVER))
        return stranger if until <= self._front.deadlines.now else None

    def _idle_one(self) -> SenderConnection | None:
        now = self._front.deadlines.now
        if not self._idle and now >= self._look_at:
            self._look_at = now + SWEEP_INTERVAL_SECONDS
            self._look(now - LEAST_IDLE_SECONDS)
        while self._idle:
            connection, since = next(iter(self._idle.items()))
            del self._idle[connection]
            if connection.idle_since == since:
                return connection
        return None

    def _look(self, before: float) -> None:
        """Find those that are idle since before then, among the next few of all."""
        begin = self._looked_at if self._looked_at < len(self._connections) else 0
        self._looked_at = begin + LOOKED_AT
        some = islice(self._connections, begin, self._looked_at)
        found = [(since, one) for one in some if (since := one.idle_since) <= before]
        self._idle = {one: since for since, one in sorted(found, key=lambda idle: idle[0])}
