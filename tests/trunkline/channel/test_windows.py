import pytest

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream
from trunkline.channel.windows import WindowGrowth

LIMITS = Limits(initial_window_bytes=100, max_window_bytes=300, link_budget_bytes=250, tuning_floor_seconds=0.005)


def _stream():
    return Stream(1, 100, 100, 0)


def test_the_first_grant_only_starts_the_clock():
    assert WindowGrowth(LIMITS, None).grow(_stream(), 50, 5.0, 10.0) == 0


def test_a_window_doubles_when_it_would_not_last_for_two_and_a_half_round_trips():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 49, 1.125, 0.1) == 0
    assert growth.grow(stream, 51, 1.25, 0.1) == 100
    assert growth.grow(stream, 101, 1.375, 0.1) == 100, "up to the largest window"
    assert growth.grow(stream, 300, 1.5, 0.1) == 0
    assert stream.window_bytes == 300


def test_grants_within_a_round_trip_count_together():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert [growth.grow(stream, 10, 1.02 + number / 50, 0.1) for number in range(5)] == [0, 0, 0, 0, 100]
    assert [growth.grow(stream, 10, 1.14 + number / 50, 0.1) for number in range(5)] == [0] * 5, "that was slow"


def test_bursts_of_a_whole_window_are_no_reason_to_grow():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    for number in range(10):
        assert growth.grow(stream, 50, 1.0 + number, 0.1) == 0
        assert growth.grow(stream, 50, 1.0 + number, 0.1) == 0


@pytest.mark.parametrize("bytes_per_second", [1e6, 2e7, 5e8])
@pytest.mark.parametrize("rtt_seconds", [0.001, 0.02, 0.2])
def test_windows_are_a_few_times_what_is_under_way(bytes_per_second, rtt_seconds):
    limits = Limits(initial_window_bytes=64 * 1024, max_window_bytes=2**30, link_budget_bytes=2**31)
    growth, stream = WindowGrowth(limits, None), Stream(1, 0, 64 * 1024, 0)
    now = 0.0
    for _ in range(1000):
        due = stream.window_bytes * 2 // 5
        # As fast as the window lets them come over an idle way, and no faster than the way carries.
        now += due / min(bytes_per_second, stream.window_bytes / rtt_seconds)
        growth.grow(stream, due, now, rtt_seconds)
    under_way = bytes_per_second * rtt_seconds
    assert stream.window_bytes >= under_way
    assert stream.window_bytes <= max(5 * under_way, limits.initial_window_bytes)


def test_beside_another_that_has_grown_a_window_goes_by_more_than_one_burst():
    growth = WindowGrowth(LIMITS, None)
    first, second = _stream(), _stream()
    for stream in (first, second):
        growth.grow(stream, 50, 1.0, 0.001)
    assert growth.grow(first, 100, 1.006, 0.001) == 100, "alone, a round trip is enough"
    assert growth.grow(second, 100, 1.008, 0.001) == 0
    assert growth.grow(second, 100, 1.03, 0.001) == 0, "that was a burst"
    assert growth.grow(second, 400, 1.051, 0.001) == 100
    growth.release(second)
    growth.grow(first, 100, 1.06, 0.001)
    assert growth.grow(first, 1000, 1.066, 0.001) == 100, "alone again"


def test_short_round_trips_count_as_the_floor():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, 50, 1.0, 0.00001)
    assert growth.grow(stream, 90, 1.0001, 0.00001) == 0
    assert growth.grow(stream, 10, 1.006, 0.00001) == 100


def test_without_a_round_trip_nothing_grows():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, 50, 1.0, None)
    for number in range(3):
        assert growth.grow(stream, 1000, 1.1 + number / 10, None) == 0


def test_growth_stays_inside_both_budgets_and_comes_back():
    budget = CreditBudget(limit_bytes=150)
    growth = WindowGrowth(LIMITS, budget)
    streams = [_stream() for _ in range(3)]
    for stream in streams:
        growth.grow(stream, 50, 1.0, 0.1)
    assert [growth.grow(stream, stream.window_bytes, 1.1, 0.1) for stream in streams] == [100, 0, 0]
    growth.release(streams[0])
    growth.release(streams[1])
    assert growth.extra_bytes == budget.reserved_bytes == 0
    alone = WindowGrowth(LIMITS, None)
    for stream in (one := [_stream() for _ in range(3)]):
        alone.grow(stream, 50, 1.0, 0.1)
    assert [alone.grow(stream, stream.window_bytes, 1.1, 0.1) for stream in one] == [100, 100, 0]
