"""When credentials are renewed, and that a fleet does not do it at once."""

import random
from collections import Counter

import pytest

from certs.lifespan import EARLIEST_RENEWAL, LATEST_RENEWAL, Lifespan, lifespan_of, renewal_part
from tests.support.identities import IdentityKit

DAY = 86400
NODES = 10_000
ENROLLED_WITHIN_SECONDS = 10.0


RATE_SECONDS = 300.0
"""Of 10,000 nodes with lives of a day one comes in seven seconds: a rate is what comes in some minutes."""


def simulated(days: float, seed: int) -> list[float]:
    """When 10,000 nodes renew that were enrolled within 10 s."""
    rng, moments = random.Random(seed), []
    for _ in range(NODES):
        now, first = rng.uniform(0.0, ENROLLED_WITHIN_SECONDS), True
        while now < days * DAY:
            part = renewal_part(f"{rng.getrandbits(128):x}", first=first)
            now, first = Lifespan(now, now + DAY).at(part), False
            moments.append(now)
    return [moment for moment in moments if moment < days * DAY]


def busiest(moments: list[float], bin_seconds: float = RATE_SECONDS) -> float:
    """The busiest bin, in renewals a second."""
    return max(Counter(int(moment / bin_seconds) for moment in moments).values()) / bin_seconds


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_that_was_enrolled_at_once_never_renews_at_more_than_thrice_the_long_run_mean(seed: int):
    """From the first wave on, through all the generations of a week; the mean is that of nodes that never met."""
    moments = simulated(7, seed)
    mean = NODES / (DAY * (EARLIEST_RENEWAL + LATEST_RENEWAL) / 2)
    assert 0.9 * mean < len(moments) / (7 * DAY) < 1.05 * mean
    assert busiest(moments) <= 3.0 * mean


def test_the_moment_is_one_of_the_certificate_and_not_of_the_process():
    parts = [renewal_part(f"{number:x}") for number in range(2000)]
    assert parts == [renewal_part(f"{number:x}") for number in range(2000)]
    assert 0.5 <= min(parts) < 0.502
    assert 0.698 < max(parts) <= 0.7
    first = [renewal_part(f"{number:x}", first=True) for number in range(2000)]
    assert 0.4 <= min(first) < 0.403
    assert 0.697 < max(first) <= 0.7


def test_a_renewal_lies_between_half_and_seven_tenths_of_the_life():
    life = Lifespan(1000.0, 2000.0)
    moments = [life.renew_at(random.Random(seed)) for seed in range(500)]
    assert 1500.0 <= min(moments) < 1510.0
    assert 1690.0 < max(moments) <= 1700.0


def test_a_life_begins_with_the_issue_and_not_with_the_backdated_certificate(tmp_path):
    kit = IdentityKit(tmp_path)
    life = lifespan_of(kit.issue_node(lifetime_seconds=60).chain)
    assert life.start == int(kit.now)
    assert life.end == int(kit.now + 60)


@pytest.mark.parametrize(
    ("now", "covered"), [(999.0, True), (640.0, True), (639.0, False), (1999.0, True), (2000.0, False), (1500.0, True)]
)
def test_what_it_covers(now: float, covered: bool):
    """A backdated certificate is valid for five minutes before its issue, and a minute of skew is tolerated."""
    assert Lifespan(1000.0, 2000.0).covers(now) is covered


def test_what_should_have_been_renewed_is_overdue():
    life = Lifespan(0.0, 100.0)
    assert (life.is_overdue(69.0), life.is_overdue(70.0)) == (False, True)
