"""Renewals one after the other: the control plane's timetable and the agents' arithmetic, over days of virtual time."""

import heapq
import math
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from certs.lifespan import Lifespan, RenewalWindow, renewal_moment, renewal_window
from control_plane.identity.renewal_timetable import FURTHEST_SECONDS, MOST_DRAWS, SWEEP_SECONDS, RenewalTimetable

HOUR, DAY = 3600.0, 86400.0
NODES, ENROLLED_WITHIN_SECONDS = 10_000, 10.0
BEGAN = 1_800_000_000.0


@dataclass(frozen=True)
class Fleet:
    """What became of a simulated one."""

    by_second: Counter[int]
    mean: float
    most_kept: int

    @property
    def peak(self) -> int:
        return max(self.by_second.values())

    @property
    def bound(self) -> int:
        """Thrice the mean, in whole renewals; 1 where that is less than one."""
        return math.ceil(3 * self.mean)


def simulated(life_seconds: float, run_seconds: float, *, seed: int = 1, clock_error_seconds: float = 0.0) -> Fleet:
    """10,000 nodes enrol within 10 s, and renew as the agent does at the moments that the timetable gives them."""
    rng = random.Random(seed)
    timetable, by_second, most_kept = RenewalTimetable(rng), Counter[int](), 0
    coming = [(BEGAN + rng.uniform(0.0, ENROLLED_WITHIN_SECONDS), node, True) for node in range(NODES)]
    heapq.heapify(coming)
    while coming[0][0] < BEGAN + run_seconds:
        now, node, enrols = heapq.heappop(coming)
        if not enrols:
            by_second[int(now)] += 1
        life = Lifespan(int(now), int(now) + life_seconds)
        promised = timetable.promise(renewal_window(life, life, first=enrols), now)
        due = renewal_moment(life, life, "", first=enrols, promised=promised)
        assert due == promised, "the agent takes what it is promised"
        most_kept = max(most_kept, len(timetable))
        # Looked at by a clock that is a little off, and then a round trip away.
        arrives = due + rng.uniform(-clock_error_seconds, clock_error_seconds)
        heapq.heappush(coming, (arrives, node, False))
    return Fleet(by_second, by_second.total() / run_seconds, most_kept)


def test_at_a_life_of_a_day_no_second_of_a_week_has_two_renewals():
    """The mean is one renewal in five seconds; so one in a second is the least that any second can have."""
    fleet = simulated(DAY, 7 * DAY)
    assert 0.18 < fleet.mean < 0.21
    assert (fleet.peak, fleet.bound) == (1, 1)
    assert fleet.most_kept < 0.7 * DAY


@pytest.mark.parametrize("life_seconds", [HOUR, 9 * HOUR])
def test_at_shorter_lives_no_second_has_more_than_thrice_the_mean(life_seconds: float):
    """Through four generations, of which the first two are the worst."""
    fleet = simulated(life_seconds, 2.4 * life_seconds)
    assert fleet.peak <= fleet.bound


def test_clocks_that_are_within_half_a_second_change_nothing():
    fleet = simulated(DAY, 2 * DAY, clock_error_seconds=0.49)
    assert fleet.peak == 1


def test_a_second_that_is_free_is_found_as_long_as_there_are_many():
    timetable = RenewalTimetable(random.Random(1))
    promised = [timetable.promise(RenewalWindow(1000.0, 2000.0), 0.0) for _ in range(500)]
    assert len(set(promised)) == len(promised)
    assert all(moment is not None and 1000.0 < moment < 2000.0 and moment % 1 == 0.5 for moment in promised)


def test_where_none_is_free_the_least_busy_is_taken():
    timetable = RenewalTimetable(random.Random(1))
    promised = Counter(timetable.promise(RenewalWindow(1000.0, 1000.0 + MOST_DRAWS), 0.0) for _ in range(1600))
    assert sum(promised.values()) == 1600
    assert max(promised.values()) <= 110


@pytest.mark.parametrize("window", [(10.2, 11.9), (10.0, 10.9), (12.0, 11.0)])
def test_a_window_without_a_whole_second_is_left_to_the_node(window: tuple[float, float]):
    assert RenewalTimetable(random.Random(1)).promise(RenewalWindow(*window), 0.0) is None


def test_what_is_over_is_forgotten():
    timetable = RenewalTimetable(random.Random(1))
    for now in range(0, 100_000, 10):
        timetable.promise(RenewalWindow(now + 50.0, now + 70.0), float(now))
    assert len(timetable) <= SWEEP_SECONDS + 70


def test_what_a_wrong_clock_has_promised_is_forgotten_once_it_is_right():
    timetable = RenewalTimetable(random.Random(1))
    ahead = BEGAN + 90 * DAY
    for _ in range(100):
        timetable.promise(RenewalWindow(ahead, ahead + DAY), ahead)
    timetable.promise(RenewalWindow(BEGAN, BEGAN + DAY), BEGAN)
    assert len(timetable) == 1
    assert ahead > BEGAN + FURTHEST_SECONDS
