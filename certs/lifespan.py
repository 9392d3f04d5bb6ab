"""Lifespans: from when to when a credential is good, and the moment within it at which it is to be renewed.

Renewal comes at a random 50 to 70 % of a life: early enough that a control plane may be away for hours, and spread so
that a fleet that was enrolled together does not come back together. In such a wave the rate is at most thrice the
long-run mean (0.6 lives between renewals, spread over 0.2). Nodes that have only just joined or returned, which whole
fleets do at once, begin at 40 %, which makes it twice, in the first wave and in those after it.
"""

import random
from dataclasses import dataclass

from certs.chains import CertificateChain
from certs.issuance import BACKDATE_SECONDS

EARLIEST_RENEWAL, LATEST_RENEWAL = 0.5, 0.7
EARLIEST_FIRST_RENEWAL = 0.4
TOLERATED_SKEW_SECONDS = 60.0
"""How far a clock may be off without any effect; what is not valid yet by no more than that is taken as valid."""


@dataclass(frozen=True, slots=True)
class Lifespan:
    """A life from `start` to `end`, in seconds since the epoch."""

    start: float
    end: float

    def renew_at(self, rng: random.Random) -> float:
        """Return a random moment at which to renew."""
        return self.at(rng.uniform(EARLIEST_RENEWAL, LATEST_RENEWAL))

    def at(self, part: float) -> float:
        """Return the moment at which this part of the life is over."""
        return self.start + (self.end - self.start) * part

    def is_overdue(self, now: float) -> bool:
        """Whether the last moment at which it should have been renewed is over."""
        return now >= self.at(LATEST_RENEWAL)

    def has_begun(self, now: float) -> bool:
        """Whether it is valid already, but for the skew that is tolerated; a clock that was set back undoes it."""
        return now >= self.start - BACKDATE_SECONDS - TOLERATED_SKEW_SECONDS

    def covers(self, now: float) -> bool:
        """Whether it is valid at `now`."""
        return self.has_begun(now) and now < self.end


def renewal_part(serial: str, *, first: bool = False) -> float:
    """The part of its life after which the certificate with this serial number is to be renewed.

    It is as random as the serial number, and the same after each restart: a fleet whose agents are all restarted in the
    middle of their certificates' lives would otherwise draw again, and many of them a moment that is over.
    """
    earliest = EARLIEST_FIRST_RENEWAL if first else EARLIEST_RENEWAL
    return random.Random(serial).uniform(earliest, LATEST_RENEWAL)  # noqa: S311 - it spreads load, and is no secret


def lifespan_of(chain: CertificateChain) -> Lifespan:
    """The life of a certificate of our authority, from its issue on, which is later than its `notBefore`."""
    return Lifespan(min(chain.not_before + BACKDATE_SECONDS, chain.not_after), chain.not_after)
