import random

import pytest

from relay.port.handshake_pace import HandshakePace


@pytest.mark.parametrize("per_second", [2, 10, 300, 5000])
@pytest.mark.parametrize("seed", range(3))
def test_no_second_has_more_than_the_budget_whenever_they_come(per_second: int, seed: int):
    rng = random.Random(seed)
    pace, now, begun = HandshakePace(per_second), 0.0, []
    while now < 6.0:
        now += rng.expovariate(per_second * 3) + (rng.random() < 1e-3) * rng.uniform(0, 1.5)
        while pace.ready(now) and rng.random() < 0.95:
            pace.spend(now)
            begun.append(now)
    first = 0
    for last, at in enumerate(begun):
        while begun[first] <= at - 1.0:
            first += 1
        assert last - first < per_second


def test_in_a_storm_the_budget_is_used():
    pace, now, begun = HandshakePace(300), 0.0, 0
    while now < 10.0:
        if pace.ready(now):
            pace.spend(now)
            begun += 1
        else:
            now = pace.ready_at
    assert begun == pytest.approx(pace.sustained_per_second * 10, rel=0.02)
    assert pace.sustained_per_second > 0.85 * 300


def test_a_refund_is_for_the_next():
    pace = HandshakePace(2)
    pace.spend(5.0)
    assert not pace.ready(5.0)
    pace.refund()
    assert pace.ready(5.0)
