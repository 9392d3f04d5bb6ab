import random

from trunkline.runtime.backoff import (
    BRIEF_SECONDS,
    BURST_SECONDS,
    BURST_STEP_SECONDS,
    CAP_SECONDS,
    CROWDED_SECONDS,
    FIRST_SPREAD_SECONDS,
    LASTING_SECONDS,
    Backoff,
)


def test_the_first_retry_comes_at_once():
    assert Backoff(random.Random(1)).next_delay_seconds(0.0) == 0.0


def test_then_short_delays_for_three_seconds_then_growing_ones_to_the_cap():
    backoff = Backoff(random.Random(7))
    backoff.next_delay_seconds(0.0)
    burst = [backoff.next_delay_seconds(n * BURST_SECONDS / 100) for n in range(99)]
    assert all(0 <= delay <= BURST_STEP_SECONDS for delay in burst)
    assert max(burst) > BURST_STEP_SECONDS * 0.9
    later = [backoff.next_delay_seconds(100.0) for _ in range(400)]
    assert later[0] <= 0.2
    assert max(later) <= CAP_SECONDS
    assert max(later[20:]) > CAP_SECONDS * 0.9
    assert min(later[20:]) < CAP_SECONDS * 0.1


def test_success_starts_it_anew():
    backoff = Backoff(random.Random(7))
    for _ in range(50):
        backoff.next_delay_seconds(0.0)
        backoff.next_delay_seconds(100.0)
    backoff.reset()
    assert backoff.next_delay_seconds(200.0) == 0.0
    assert backoff.next_delay_seconds(200.1) <= BURST_STEP_SECONDS


def test_what_the_peer_asked_for_is_the_least():
    backoff = Backoff(random.Random(7), cap_seconds=1.0)
    assert backoff.next_delay_seconds(0.0, at_least_seconds=4.0) == 4.0
    assert 4.0 <= backoff.next_delay_seconds(1.0, at_least_seconds=4.0) <= 4.0 + BURST_STEP_SECONDS


def test_a_fleet_spreads_its_return_from_the_second_attempt_on():
    firsts, seconds, late = [], [], []
    for seed in range(400):
        backoff = Backoff(random.Random(seed))
        firsts.append(backoff.next_delay_seconds(0.0, spread_seconds=40.0))
        seconds.append(backoff.next_delay_seconds(1.0, spread_seconds=40.0))
        late.append(backoff.next_delay_seconds(100.0, spread_seconds=40.0))
    assert 0.9 < max(firsts) <= FIRST_SPREAD_SECONDS
    for delays in (seconds, late):
        assert 38 < max(delays) <= 40
        assert 17 < sum(delays) / 400 < 23


def test_a_small_spread_changes_little_for_the_first():
    assert Backoff(random.Random(7)).next_delay_seconds(0.0, spread_seconds=0.01) <= 0.01


def test_a_peer_without_room_is_left_alone_for_longer_each_time():
    longest = [0.0] * 5
    for seed in range(400):
        backoff = Backoff(random.Random(seed), cap_seconds=20.0)
        for attempt in range(5):
            longest[attempt] = max(longest[attempt], backoff.next_delay_seconds(0.0, crowded=True))
    assert [round(delay / CROWDED_SECONDS) for delay in longest] == [1, 2, 4, 8, 10]


def failing_for_long():
    backoff = Backoff(random.Random(7))
    for _ in range(50):
        backoff.next_delay_seconds(0.0)
        backoff.next_delay_seconds(100.0)
    return backoff


def test_what_held_for_seconds_is_away_for_no_longer_than_that():
    backoff = failing_for_long()
    delays = []
    for turn in range(200):
        backoff.held(4.0)
        delays.append(backoff.next_delay_seconds(200.0 + turn))
    assert 3.5 < max(delays) <= 4.0
    assert backoff.next_delay_seconds(500.0) <= 8.0, "what fails in between has growing pauses again"


def test_what_held_for_a_moment_is_a_failure():
    backoff = failing_for_long()
    delays = []
    for turn in range(50):
        backoff.held(BRIEF_SECONDS / 2)
        delays.append(backoff.next_delay_seconds(200.0 + turn))
    assert max(delays) > CAP_SECONDS * 0.8


def test_what_held_for_long_starts_it_anew():
    backoff = failing_for_long()
    backoff.held(LASTING_SECONDS)
    assert backoff.next_delay_seconds(200.0) == 0.0
