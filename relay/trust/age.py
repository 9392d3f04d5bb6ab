"""How old the trust in force is: the time since the control plane last confirmed that there is nothing newer.

The feed confirms it once a second. A relay that is cut off goes on with what it has, since every token ends by itself;
it says so once for each loss, in its log and in `/readyz?verbose`, and counts the seconds in its metrics. An operator
who would rather have no new calls than calls under old trust sets a limit: beyond it nothing new is admitted, `/readyz`
fails, and what is open goes on.

While a machine is suspended its monotonic clock stands still, and trust grows old all the same: so the wall clock
counts where it has gone farther. One that is set forwards makes trust look old, until it is confirmed within a second.
"""

from relay.metrics import RelayMetrics
from relay.settings import TrustSettings
from relay.trust.in_force import TrustInForce
from trunkline.runtime.clock import Clock
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import Logger


class TrustAge:
    """Watches the age; `look` is to be called about once a second."""

    def __init__(
        self,
        *,
        settings: TrustSettings,
        trust: TrustInForce,
        fresh: Condition,
        metrics: RelayMetrics,
        clock: Clock,
        log: Logger,
        confirmed_at: float | None = None,
    ) -> None:
        """Begin with trust that counts as confirmed just now, unless it is known when it was.

        Args:
            settings: when to warn, and when to refuse.
            trust: told to admit nothing new, and again that it may.
            fresh: the condition of readiness, which fails only where new calls are refused.
            metrics: has the age at each scrape.
            clock: the time.
            log: the log.
            confirmed_at: when it was confirmed, in the clock's monotonic seconds.
        """
        self._settings = settings
        self._trust = trust
        self._fresh = fresh
        self._clock = clock
        self._log = log
        self._warned = False
        self._confirmed_at = clock.monotonic() if confirmed_at is None else confirmed_at
        self._confirmed_wall = clock.now() - (clock.monotonic() - self._confirmed_at)
        fresh.met()
        metrics.trust_age.set_function(lambda: self.seconds)

    @property
    def seconds(self) -> float:
        """The age."""
        return max(self._clock.monotonic() - self._confirmed_at, self._clock.now() - self._confirmed_wall)

    @property
    def confirmed_at(self) -> float:
        """When it was last confirmed, in the clock's monotonic seconds."""
        return self._confirmed_at

    def confirmed(self) -> None:
        """The control plane has just said that the document in force is the newest."""
        if self._warned:
            self._log.info("trust.confirmed_again", age_seconds=round(self.seconds, 1))
        self._confirmed_at, self._confirmed_wall = self._clock.monotonic(), self._clock.now()
        if self._warned:
            self._warned = False
            self._fresh.met()
            self._trust.set_stale(False)

    def remark(self) -> str | None:
        """What `/readyz?verbose` says of the trust document while it is old; None while it is not."""
        age = self.seconds
        if age < self._settings.warn_after_seconds:
            return None
        return f"not confirmed by the control plane for {age:.0f} s"

    def look(self) -> None:
        """Warn, and stop admitting, when it is time."""
        age, limit = self.seconds, self._settings.refuse_after_seconds
        if age >= self._settings.warn_after_seconds and not self._warned:
            self._warned = True
            self._log.warning("trust.old", age_seconds=round(age, 1), consequence=_consequence(limit))
        if limit is not None and age >= limit and not self._trust.stale:
            self._warned = True
            self._trust.set_stale(True)
            self._fresh.unmet(f"the trust document has not been confirmed for {age:.0f} s")
            self._log.error("trust.stale", age_seconds=round(age, 1), consequence="new calls and links are refused")


def _consequence(limit_seconds: float | None) -> str:
    if limit_seconds is None:
        return "revocations do not arrive; calls go on, and tokens end when they expire"
    return f"revocations do not arrive; new calls are refused from {limit_seconds:g} s on"
