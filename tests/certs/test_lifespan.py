"""When credentials are renewed, and that a fleet does not do it at once."""

import random
from collections import Counter

import pytest

from certs.lifespan import Lifespan, lifespan_of
from tests.support.identities import IdentityKit

DAY = 86400
HOUR = 3600
NODES = 10_000
ENROLLED_WITHIN_SECONDS = 10.0


def simulated(life_seconds: float, renewals_each: int, seed: int) -> list[float]:
    """Return when 10,000 nodes renew that were enrolled within 10 s: so many times each, in order."""
    rng, moments = random.Random(seed), []
    for _ in range(NODES):
        now = rng.uniform(0.0, ENROLLED_WITHIN_SECONDS)
        for _ in range(renewals_each):
            now = Lifespan(now, now + life_seconds).renew_at(rng)
            moments.append(now)
    return sorted(moments)


def peak_over_mean(moments: list[float], bin_seconds: float) -> float:
    """Compare the busiest bin with the mean over the time in which there are renewals at all."""
    peak = max(Counter(int(moment / bin_seconds) for moment in moments).values())
    return peak / (len(moments) * bin_seconds / (moments[-1] - moments[0]))


@pytest.mark.parametrize("seed", range(3))
def test_ten_thousand_nodes_with_a_life_of_a_day_renew_at_a_steady_rate(seed: int):
    """In the first wave, and after a week; a second holds less than one renewal, so minutes are compared."""
    assert peak_over_mean(simulated(DAY, 1, seed), 60.0) <= 3.0
    later = [moment for moment in simulated(DAY, 16, seed) if 6 * DAY < moment < 8 * DAY]
    assert peak_over_mean(later, 60.0) <= 3.0


@pytest.mark.parametrize("seed", range(3))
def test_the_busiest_second_is_at_most_thrice_the_mean(seed: int):
    """With a life of half an hour there are enough renewals in a second to speak of its rate."""
    assert peak_over_mean(simulated(HOUR / 2, 1, seed), 1.0) <= 3.0


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
