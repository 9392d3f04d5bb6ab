"""Until when operators' tokens of each key are out, by a clock that does not jump: so long the key is not retired.

Theory of operation. The end of a token is a time of the wall clock that it was issued by, and is noted with its key in
the database. A control plane whose clock is set forwards would take for ended by it what relays and nodes, whose clocks
are right, still take; and one whose clock was ahead for a moment would hold the key for as long as it was ahead. So the
monotonic clock holds what this process issues, for as long as it lives.

What is found at the start was issued by another process. It is as far from its end as when that process last recorded
anything, since nobody knows whether time has passed since or the clock was set. But for that reason alone a key is held
for no longer than a day, as nothing else is kept; and for none longer than a token may live.
"""

from collections.abc import Mapping

from control_plane.settings import DAY_SECONDS
from trunkline.runtime.clock import Clock

LONGEST_SECONDS = 30 * DAY_SECONDS
"""The longest life of a token that an operator is given."""


class TokenEnds:
    """Keeps until when tokens of each key are out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def begin(self, noted: Mapping[str, int], silent_seconds: float) -> None:
        """Take up what is in the database.

        Args:
            noted: until when tokens of each key are out, in milliseconds by the wall clock of then.
            silent_seconds: how long ago, by the wall clock of now, anything was recorded last; less than 0 is ahead.
        """
        now = self._clock.now()
        for key_id, until_ms in noted.items():
            left = until_ms / 1000 - now
            left = max(left, min(left + silent_seconds, DAY_SECONDS)) if silent_seconds > 0 else left + silent_seconds
            self.note(key_id, min(left, LONGEST_SECONDS))

    def note(self, key_id: str, seconds: float) -> None:
        """Note that a token of this key is out from now, for so long."""
        end = self._clock.monotonic() + seconds
        self._ends[key_id] = max(self._ends.get(key_id, end), end)

    def until(self, key_id: str) -> int | None:
        """Return until when tokens of this key are out, in milliseconds of the wall clock as it is; None: none are."""
        left = self._ends.get(key_id, float("-inf")) - self._clock.monotonic()
        return round((self._clock.now() + left) * 1000) if left > 0 else None
