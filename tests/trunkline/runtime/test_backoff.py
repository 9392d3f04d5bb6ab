import random

from trunkline.runtime.backoff import BURST_SECONDS, BURST_STEP_SECONDS, CAP_SECONDS, Backoff


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
