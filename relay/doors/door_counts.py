"""The numbers of one door that every call adds to, fetched once."""

from typing import Final

from relay.doors.entry import Door
from relay.metrics import RelayMetrics
from relay.tallies import Distribution, Tally

FORWARDED: Final = "forwarded"


class DoorCounts:
    """Tallies of a door's calls: those open, those that the node answered, and how long calls take."""

    __slots__ = ("forwarded", "open", "seconds")

    def __init__(self, metrics: RelayMetrics, door: Door) -> None:
        self.open: Tally = metrics.calls_open.of(door.value)
        self.forwarded: Tally = metrics.calls.of(door.value, FORWARDED)
        self.seconds: Distribution = metrics.call_seconds.of(door.value)
