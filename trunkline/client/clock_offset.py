"""How far this machine's clock is from the control plane's, estimated from the Date fields of its answers."""

import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from certs.lifespan import TOLERATED_SKEW_SECONDS
from trunkline.runtime.clock import Clock

# A Date field names a whole second; the true time is half a second later on average.
_HALF_SECOND = 0.5
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED.
_TIME_ERRORS = (9, 10)


class ClockOffset:
    """The latest estimate. Positive means that the clock here is behind.

    One answer tells the offset to within half a second and half the round trip, which is enough to say that a clock
    is wrong, and not enough to set one by. Between answers the estimate follows jumps of the wall clock, which the
    monotonic clock gives away. `clock` is the one that is compared.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._observed: float | None = None
        self._uncertain = 0.0
        self._difference = 0.0

    @property
    def seconds(self) -> float | None:
        """The offset as of now, in seconds; None before the first answer."""
        if self._observed is None:
            return None
        return round(self._observed - (self.clock.now() - self.clock.monotonic() - self._difference), 3)

    @property
    def is_skewed(self) -> bool:
        """Whether the clock is certainly farther off than is tolerated (60 s)."""
        seconds = self.seconds
        return seconds is not None and abs(seconds) - self._uncertain > TOLERATED_SKEW_SECONDS

    def observe(self, date: str | None, sent_at: float, received_at: float) -> None:
        """Take the Date field of an answer, and the wall times between which it was made (seconds)."""
        if date is None:
            return
        try:
            there = parsedate_to_datetime(date).timestamp()
        except (ValueError, TypeError, OverflowError):
            return
        self._observed = there + _HALF_SECOND - (sent_at + received_at) / 2
        self._uncertain = _HALF_SECOND + abs(received_at - sent_at) / 2
        self._difference = self.clock.now() - self.clock.monotonic()

    def complaint(self) -> str | None:
        """Say that the clock is wrong, by how much, and what to do; None if it is right as far as is known."""
        seconds = self.seconds
        if seconds is None or not self.is_skewed:
            return None
        direction = "behind" if seconds > 0 else "ahead of"
        return (
            f"clock_skew: this machine's clock is {abs(seconds):.0f} s {direction} the control plane's; "
            "set it right (NTP), and this goes on by itself"
        )

    def complaint_about(self, error: BaseException) -> str | None:
        """Say so where a TLS handshake failed since a certificate is not valid at the time that the clock shows."""
        if not isinstance(error, ssl.SSLCertVerificationError) or error.verify_code not in _TIME_ERRORS:
            return None
        known = self.complaint()
        if known is not None:
            return known
        shown = datetime.fromtimestamp(self.clock.now(), UTC).isoformat(timespec="seconds")
        return (
            f"clock_skew: the control plane's certificate is not valid at {shown}, which is what this machine's clock "
            "shows: set it right (NTP), unless the control plane let its certificate expire"
        )
