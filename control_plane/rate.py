"""A rate that is kept to: so many a second, with a second's worth at once."""


class Rate:
    """A token bucket. It reads no clock; `now` is monotonic seconds."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._left = per_second
        self._seen_at: float | None = None

    def take(self, now: float) -> bool:
        """Take one, if there is one left."""
        since = 0.0 if self._seen_at is None else max(0.0, now - self._seen_at)
        self._seen_at = now
        self._left = min(self._per_second, self._left + since * self._per_second)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
