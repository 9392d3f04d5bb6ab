"""So many a second, with a second's worth at once."""

from control_plane.rate import Rate


def test_a_burst_and_then_the_rate():
    rate = Rate(10)
    assert [rate.take(0.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert [rate.take(0.25) for _ in range(3)] == [True, True, False]
    assert sum(rate.take(100.0) for _ in range(50)) == 10


def test_a_clock_that_stands_still_or_goes_back_gives_nothing():
    rate = Rate(1)
    assert rate.take(5.0)
    assert not rate.take(5.0)
    assert not rate.take(4.0)
