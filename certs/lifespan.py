"""Lifespans: from when to when a credential is good, and the moment within it at which it is to be renewed.

Renewal comes at 50 to 70 % of a life: early enough that a control plane may be away for hours, and spread so that a
fleet that was enrolled together does not come back together. Nodes are told a moment within that window by the control
plane, which knows those of the others; who is told none draws one. A fleet that came at once is a wave, spread over
0.2 lives, in which the rate is thrice the long-run mean (0.6 lives between renewals) before chance has added anything.
So nodes that have only just joined or returned, which whole fleets do at once, begin at 40 %, which makes it twice.
"""

import random
from dataclasses import dataclass
from typing import NamedTuple

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


class RenewalWindow(NamedTuple):
    """From when to when (seconds since the epoch) a pair of leaf and listen token is to be renewed."""

    earliest: float
    latest: float

    def holds(self, moment: float) -> bool:
        """Whether a moment lies in it."""
        return self.earliest <= moment <= self.latest


def renewal_window(leaf: Lifespan, token: Lifespan, *, first: bool = False) -> RenewalWindow:
    """Return the window of a pair, which is that of the shorter life; `first` is one of a bootstrap or late renewal."""
    earliest = EARLIEST_FIRST_RENEWAL if first else EARLIEST_RENEWAL
    return RenewalWindow(
        min(leaf.at(earliest), token.at(earliest)), min(leaf.at(LATEST_RENEWAL), token.at(LATEST_RENEWAL))
    )


def renewal_part(serial: str, *, first: bool = False) -> float:
    """The part of its life after which the certificate with this serial number is to be renewed.

    It is as random as the serial number, and the same after each restart: a fleet whose agents are all restarted in the
    middle of their certificates' lives would otherwise draw again, and many of them a moment that is over.
    """
    earliest = EARLIEST_FIRST_RENEWAL if first else EARLIEST_RENEWAL
    return random.Random(serial).uniform(earliest, LATEST_RENEWAL)  # noqa: S311 - it spreads load, and is no secret


def renewal_moment(
    leaf: Lifespan, token: Lifespan, serial: str, *, first: bool = False, promised: float | None = None
) -> float:
    """Return when a pair is to be renewed (seconds since the epoch).

    It is the moment that was promised, if that lies in the window that one would be drawn from: nobody is made to renew
    too late, or all the time. Else it is drawn by the leaf's serial number.
    """
    window = renewal_window(leaf, token, first=first)
    if promised is not None and window.holds(promised):
        return promised
    part = renewal_part(serial, first=first)
    return min(leaf.at(part), token.at(part))


def lifespan_of(chain: CertificateChain) -> Lifespan:
    """The life of a certificate of our authority, from its issue on, which is later than its `notBefore`."""
    return Lifespan(min(chain.not_before + BACKDATE_SECONDS, chain.not_after), chain.not_after)
