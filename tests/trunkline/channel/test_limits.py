import pytest

from trunkline.channel.limits import CreditBudget, Limits, RateBound


class Holder:
    """Holds so much in each of its streams, whose names that is."""

    def __init__(self, *streams):
        self.streams = list(streams)

    def held_bytes(self):
        return sum(self.streams)

    def largest_holder(self):
        return max(self.streams, default=None)

    def cut(self, stream):
        if stream in self.streams:
            self.streams.remove(stream)


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_window_bytes": 0},
        {"initial_window_bytes": 8 * 1024 * 1024},
        {"max_window_bytes": 2**31},
        {"max_streams": 0},
        {"max_unacked_streams": 0},
        {"max_control_backlog_bytes": 0},
    ],
)
def test_bounds_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match="max_"):
        Limits(**wrong)


def test_a_rate_allows_a_burst_and_then_its_pace():
    rate = RateBound(3, 2.0, now=0.0)
    assert [rate.spend(100.0) for _ in range(4)] == [True, True, True, False]
    assert not rate.spend(100.4)
    assert rate.spend(100.6)
    assert not rate.spend(100.7)
    assert [rate.spend(1000.0) for _ in range(4)] == [True, True, True, False]


def test_a_long_quiet_time_saves_no_more_than_the_burst():
    rate = RateBound(10, 1.0, now=0.0)
    assert rate.spend(0.0)
    assert sum(rate.spend(3600.0) for _ in range(100)) <= 20


def test_credit_that_does_not_fit_is_refused_and_nothing_taken():
    budget = CreditBudget(limit_bytes=100)
    assert budget.reserve(60)
    assert not budget.reserve(41)
    assert budget.reserved_bytes == 60
    budget.release(60)
    assert budget.reserve(100)


def test_what_holds_most_of_the_session_that_holds_most_is_next():
    budget = CreditBudget(held_limit_bytes=64)
    assert list(budget.largest_first()) == []
    small, large = Holder(5, 1), Holder(3, 4, 2)
    budget.attach(small)
    budget.attach(large)
    order = []
    for held in budget.largest_first():
        order.append(held)
        for holder in (small, large):
            holder.cut(held)
    assert order == [4, 5, 3, 2, 1]
    budget.detach(large)
    budget.detach(large)
    assert list(budget.largest_first()) == []


def test_an_overdrawn_budget_is_relieved_a_little_below_its_bound():
    budget = CreditBudget(held_limit_bytes=64)
    budget.held_bytes = 64
    assert not budget.overdrawn
    budget.held_bytes = 65
    assert budget.overdrawn
    assert budget.relieved_bytes == 63
