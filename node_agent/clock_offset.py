"""How far this machine's clock is from the control plane's, estimated from the Date fields of its answers."""

from email.utils import parsedate_to_datetime

# A Date field names a whole second; the true time is half a second later on average.
_HALF_SECOND = 0.5


class ClockOffset:
    """The latest estimate. Positive means that the clock here is behind.

    One answer tells the offset to within half a second and half the round trip, which is enough to say that a clock
    is wrong, and not enough to set one by.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None

    def observe(self, date: str | None, sent_at: float, received_at: float) -> None:
        """Take the Date field of an answer, and the wall times between which it was made (seconds)."""
        if date is None:
            return
        try:
            there = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError, OverflowError):
            return
        self.seconds = round(there + _HALF_SECOND - (sent_at + received_at) / 2, 3)
