from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.streams import Stream
from trunkline.channel.windows import WindowGrowth

LIMITS = Limits(initial_window_bytes=100, max_window_bytes=300, link_budget_bytes=250, tuning_floor_seconds=0.005)


def _stream():
    return Stream(1, 100, 100, 0)


def test_the_first_grant_only_starts_the_clock():
    assert WindowGrowth(LIMITS, None).grow(_stream(), 50, 5.0, 10.0) == 0


def test_a_window_grows_when_it_was_used_up_within_two_round_trips():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, stream.window_bytes // 2, 1.0, 0.1)
    assert growth.grow(stream, stream.window_bytes // 2, 1.21, 0.1) == 0
    assert growth.grow(stream, stream.window_bytes // 2, 1.4, 0.1) == 100
    assert growth.grow(stream, stream.window_bytes // 2, 1.5, 0.1) == 100, "up to the largest window"
    assert growth.grow(stream, stream.window_bytes // 2, 1.5, 0.1) == 0
    assert stream.window_bytes == 300


def test_half_a_window_may_be_consumed_in_many_grants():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, 50, 1.0, 0.1)
    assert [growth.grow(stream, 10, 1.0 + number / 100, 0.1) for number in range(5)] == [0, 0, 0, 0, 100]
    assert [growth.grow(stream, 20, 1.1 + number / 10, 0.1) for number in range(5)] == [0] * 5, "that was slow"


def test_short_round_trips_count_as_the_floor():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, stream.window_bytes // 2, 1.0, 0.00001)
    assert growth.grow(stream, stream.window_bytes // 2, 1.009, 0.00001) == 100


def test_without_a_round_trip_nothing_grows():
    growth, stream = WindowGrowth(LIMITS, None), _stream()
    growth.grow(stream, stream.window_bytes // 2, 1.0, None)
    assert growth.grow(stream, stream.window_bytes // 2, 1.0, None) == 0


def test_growth_stays_inside_both_budgets_and_comes_back():
    budget = CreditBudget(limit_bytes=150)
    growth = WindowGrowth(LIMITS, budget)
    streams = [_stream() for _ in range(3)]
    for stream in streams:
        growth.grow(stream, stream.window_bytes // 2, 1.0, 0.1)
    assert [growth.grow(stream, stream.window_bytes // 2, 1.1, 0.1) for stream in streams] == [100, 0, 0]
    growth.release(streams[0])
    growth.release(streams[1])
    assert growth.extra_bytes == budget.reserved_bytes == 0
    alone = WindowGrowth(LIMITS, None)
    for stream in (one := [_stream() for _ in range(3)]):
        alone.grow(stream, stream.window_bytes // 2, 1.0, 0.1)
    assert [alone.grow(stream, stream.window_bytes // 2, 1.1, 0.1) for stream in one] == [100, 100, 0]
