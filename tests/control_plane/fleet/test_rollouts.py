"""Rollouts as pure decisions: one at a time, and as properties of whole rollouts whatever their nodes do."""

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from control_plane.fleet.rollouts import (
    Decision,
    Plan,
    WaveCount,
    cut_into_waves,
    decide,
    share,
    slowest_poll_seconds,
)

NOW = 1_000_000


@pytest.mark.parametrize(
    ("nodes", "sizes", "waves"),
    [
        (5, [], (5,)),
        (5, [1, 2], (1, 2, 2)),
        (6, [1, 2], (1, 2, 2, 1)),
        (3, [10], (3,)),
        (1, [1, 5], (1,)),
        (4, [1, 1, 100], (1, 1, 2)),
    ],
)
def test_waves(nodes: int, sizes: list[int], waves: tuple[int, ...]):
    assert cut_into_waves(nodes, sizes) == waves


@pytest.mark.parametrize(
    ("asked", "nodes", "least", "number"),
    [(3, 10, 1, 3), ("25%", 10, 1, 2), ("1%", 10, 1, 1), ("1%", 10, 0, 0), ("100%", 7, 1, 7), (0, 5, 0, 0)],
)
def test_shares(asked: int | str, nodes: int, least: int, number: int):
    assert share(asked, nodes, least=least) == number


def decided(plan: Plan, *counts: WaveCount, wave: int = 0, over_since: int | None = None) -> Decision:
    return decide(plan, counts, wave=wave, over_since=over_since, now_ms=NOW)


CANARY = Plan((1, 4), canary=True, max_concurrent=3, max_failures=2)
REST = WaveCount(held=4)


@pytest.mark.parametrize(
    ("canary", "decision"),
    [
        (WaveCount(held=1), Decision(0, start=1)),
        (WaveCount(unsent=1), Decision(0)),
        (WaveCount(open=1), Decision(0)),
        (WaveCount(succeeded=1), Decision(1, start=3)),
        (WaveCount(failed=1), Decision(0, stop="the canary did not succeed")),
        (WaveCount(unreached=1), Decision(0, stop="the canary did not succeed")),
        (WaveCount(cancelled=1), Decision(0, stop="the canary did not succeed")),
    ],
)
def test_a_canary(canary: WaveCount, decision: Decision):
    assert decided(CANARY, canary, REST) == decision


def test_the_budget_is_how_many_may_fail():
    plan = Plan((2, 4), canary=False, max_concurrent=10, max_failures=1)
    assert decided(plan, WaveCount(succeeded=1, failed=1), REST) == Decision(1, start=4)
    stopped = decided(plan, WaveCount(failed=1, unreached=1), REST)
    assert stopped.stop == "the error budget is spent: 2 failed, 1 may"
    unlimited = Plan((2, 4), canary=False, max_concurrent=10, max_failures=None)
    assert decided(unlimited, WaveCount(failed=2), REST).stop is None


def test_where_everything_is_on_a_node_already_nothing_is_stopped():
    plan = Plan((3,), canary=False, max_concurrent=3, max_failures=0)
    assert decided(plan, WaveCount(failed=1, open=2)).stop is None
    assert decided(plan, WaveCount(failed=1, open=1, unsent=1)).stop is not None


def test_what_may_be_running_holds_its_place_but_not_its_wave():
    plan = Plan((1, 4), canary=False, max_concurrent=2, max_failures=3)
    assert decided(plan, WaveCount(unreached=1), REST) == Decision(1, start=1)


def test_a_pause_is_counted_from_the_end_of_the_wave():
    plan = Plan((1, 4), canary=False, max_concurrent=2, max_failures=None, pause_milliseconds=500)
    first = decided(plan, WaveCount(succeeded=1), REST)
    assert first == Decision(0, over_since=NOW, wake_time=NOW + 500)
    assert decided(plan, WaveCount(succeeded=1), REST, over_since=NOW - 499).start == 0
    assert decided(plan, WaveCount(succeeded=1), REST, over_since=NOW - 500) == Decision(1, start=2)
    back = decided(plan, WaveCount(succeeded=1), REST, over_since=NOW + 10**9)
    assert back.wake_time == NOW + 500, "a clock that was set back makes no pause endless"


def test_what_others_wait_for_is_asked_for_more_often_within_a_bound():
    assert [slowest_poll_seconds(number) for number in (1, 50, 100, 10_000)] == [1.0, 1.0, 2.0, 200.0]


@dataclass
class Fleet:
    """Nodes that do whatever a seed says; `decide` alone lets commands go."""

    plan: Plan
    rng: random.Random
    states: list[list[str]] = field(default_factory=list)
    wave: int = 0
    over_since: int | None = None
    stopped: bool = False
    started: list[tuple[int, int]] = field(default_factory=list)

    def counts(self) -> list[WaveCount]:
        return [WaveCount(**{state: wave.count(state) for state in set(wave)}) for wave in self.states]

    def take(self, now_ms: int) -> None:
        decision = decide(self.plan, self.counts(), wave=self.wave, over_since=self.over_since, now_ms=now_ms)
        self.wave, self.over_since = decision.wave, decision.over_since
        if decision.stop is not None:
            self.stopped = True
            self.states = [["cancelled" if s in ("held", "unsent") else s for s in wave] for wave in self.states]
        for _ in range(decision.start):
            place = self.states[self.wave].index("held")
            self.states[self.wave][place] = "unsent"
            self.started.append((self.wave, place))

    def happen(self) -> None:
        """Something happens to one command that is under way."""
        moves = {
            "unsent": ["open", "failed", "unreached"],
            "open": ["succeeded", "failed", "cancelled"],
            "unreached": ["succeeded", "failed"],
        }
        places = [(w, p) for w, wave in enumerate(self.states) for p, state in enumerate(wave) if state in moves]
        if places:
            w, p = self.rng.choice(places)
            self.states[w][p] = self.rng.choice(moves[self.states[w][p]])

    def failures(self) -> int:
        return sum(count.failures for count in self.counts())

    def under_way(self) -> int:
        return sum(count.under_way for count in self.counts())

    def ended(self) -> bool:
        return all(state in ("succeeded", "failed", "cancelled") for wave in self.states for state in wave)


PLANS = st.builds(
    lambda nodes, sizes, canary, concurrent, failures, pause: Plan(
        cut_into_waves(nodes, sizes), canary, concurrent, failures, pause
    ),
    st.integers(1, 30),
    st.lists(st.integers(1, 10), max_size=4),
    st.booleans(),
    st.integers(1, 10),
    st.none() | st.integers(0, 5),
    st.sampled_from([0, 3]),
)


@settings(max_examples=150, deadline=None)
@given(PLANS, st.integers(0, 2**32))
def test_every_rollout_keeps_its_bounds_and_comes_to_an_end(plan: Plan, seed: int):
    fleet = Fleet(plan, random.Random(seed), [["held"] * size for size in plan.waves])
    for now_ms in range(2_000):
        before, budget_spent = len(fleet.started), _spent(fleet)
        fleet.take(now_ms)
        new = fleet.started[before:]
        assert fleet.under_way() <= plan.max_concurrent
        assert not new or not budget_spent, "nothing starts once the budget is spent"
        for wave, _ in new:
            assert all(count.over for count in fleet.counts()[:wave]), "no wave overtakes another"
        if fleet.ended():
            break
        fleet.happen()
    assert fleet.ended(), "whatever happens, it ends"
    assert fleet.started == sorted(fleet.started), "in one order"
    sent = len(fleet.started) == sum(plan.waves)
    assert sent or fleet.stopped


def _spent(fleet: Fleet) -> bool:
    canary = fleet.counts()[0]
    failed_canary = fleet.plan.canary and bool(canary.failures + canary.cancelled)
    return failed_canary or (fleet.plan.max_failures is not None and fleet.failures() > fleet.plan.max_failures)
