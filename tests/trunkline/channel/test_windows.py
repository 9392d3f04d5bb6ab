from collections import deque
from dataclasses import replace

import pytest

from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream
from trunkline.channel.windows import GRANT_BYTES, WindowGrowth

LIMITS = Limits(initial_window_bytes=100, max_window_bytes=300, link_budget_bytes=250, tuning_floor_seconds=0.005)
WIDE = replace(LIMITS, max_window_bytes=2000, link_budget_bytes=4000)


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
    growth.grow(stream, 50, 1.0, 0.01)
    assert [growth.grow(stream, 10, 1.002 + number / 500, 0.01) for number in range(5)] == [0, 0, 0, 0, 100]
    assert [growth.grow(stream, 10, 1.014 + number / 500, 0.01) for number in range(5)] == [0] * 5, "that was slow"


def test_on_a_long_way_a_window_that_is_used_up_in_a_round_trip_grows_fourfold():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 50, 1.1, 0.1) == 0, "more of the burst may be still to come"
    assert growth.grow(stream, 40, 1.102, 0.1) == 300
    assert growth.grow(stream, 360, 1.19, 0.1) == 0, "not yet a round trip since then"
    assert growth.grow(stream, 40, 1.204, 0.1) == 1200


def test_on_a_long_way_a_window_grows_to_five_times_what_a_round_trip_brought_at_most():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 80, 1.105, 0.1) == 280, "80 in 1.05 round trips"


def test_on_a_long_way_a_window_of_which_less_is_used_doubles_once_the_burst_is_over():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert [growth.grow(stream, 20, at, 0.1) for at in (1.101, 1.115, 1.13)] == [0, 0, 100]


def test_on_a_long_way_a_round_trip_may_come_a_little_early():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 70, 1.089, 0.1) == 0
    assert growth.grow(stream, 6, 1.091, 0.1) == 280, "76 in what counts as a whole one"


def test_on_a_long_way_a_slow_stream_does_not_grow_and_its_clock_goes_on_from_there():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 30, 1.105, 0.1) == 0
    assert growth.grow(stream, 30, 1.3, 0.1) == 0, "60 in three round trips"
    assert growth.grow(stream, 100, 1.401, 0.1) == 300, "those are not counted again"


def test_on_a_short_way_a_window_doubles_once_however_fast_it_is_used_up():
    growth, stream = WindowGrowth(WIDE, None), _stream()
    growth.grow(stream, 50, 1.0, 0.0199)
    assert growth.grow(stream, 1000, 1.02, 0.0199) == 100


def test_on_a_long_way_a_budget_that_has_no_room_for_that_may_have_room_to_double():
    budget = CreditBudget(limit_bytes=250)
    growth, stream = WindowGrowth(WIDE, budget), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert growth.grow(stream, 100, 1.1, 0.1) == 100
    assert growth.extra_bytes == budget.reserved_bytes == 100
    growth.release(stream)
    assert growth.extra_bytes == budget.reserved_bytes == 0


def _window_after(round_trips, rtt_seconds, bytes_per_second=1e9):
    """Of a stream whose sender sends at once what it has credit for, over a way that carries so much."""
    growth, stream = WindowGrowth(Limits(initial_window_bytes=64 * 1024), None), Stream(1, 0, 64 * 1024, 0)
    credit = deque([(0.5 * rtt_seconds, stream.window_bytes)])
    now, due = 0.0, 0
    while now < round_trips * rtt_seconds:
        comes_at, size = credit.popleft()
        comes_at = max(now, comes_at + rtt_seconds / 2)
        while size:
            piece = min(size, 64 * 1024)
            size -= piece
            comes_at += piece / bytes_per_second
            due += piece
            if due * 5 >= stream.window_bytes * 2 or due >= GRANT_BYTES:
                extra = growth.grow(stream, due, comes_at, rtt_seconds)
                credit.append((comes_at + rtt_seconds / 2, due + extra))
                due = 0
        now = comes_at
    return stream.window_bytes


@pytest.mark.parametrize("rtt_seconds", [0.05, 0.2, 0.5])
def test_on_a_long_way_a_window_comes_near_its_largest_size_in_five_round_trips(rtt_seconds):
    assert _window_after(5, rtt_seconds) >= 0.9 * Limits().max_window_bytes


@pytest.mark.parametrize("bytes_per_second", [1e6, 3e6, 1e7])
@pytest.mark.parametrize("rtt_seconds", [0.01, 0.02, 0.2])
def test_windows_filled_by_bursts_end_at_a_few_times_what_is_under_way(bytes_per_second, rtt_seconds):
    window_bytes = _window_after(100, rtt_seconds, bytes_per_second)
    under_way = bytes_per_second * rtt_seconds
    assert min(under_way, Limits().max_window_bytes) <= window_bytes <= max(5 * under_way, 64 * 1024)


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
    assert [growth.grow(stream, stream.window_bytes // 2, 1.125, 0.1) for stream in streams] == [100, 0, 0]
    growth.release(streams[0])
    growth.release(streams[1])
    assert growth.extra_bytes == budget.reserved_bytes == 0
    alone = WindowGrowth(LIMITS, None)
    for stream in (one := [_stream() for _ in range(3)]):
        alone.grow(stream, 50, 1.0, 0.1)
    assert [alone.grow(stream, stream.window_bytes // 2, 1.125, 0.1) for stream in one] == [100, 100, 0]
