"""When tokens have ended, whatever the wall clock does meanwhile."""

import pytest

from control_plane.signing.token_ends import TokenEnds
from trunkline.runtime.clock import ManualClock

KEY = "key"
DAY = 86_400.0
MONTH = 30 * DAY


def left(ends: TokenEnds, clock: ManualClock) -> float:
    """How long tokens of the key are out."""
    until = ends.until(KEY)
    return 0.0 if until is None else round(until / 1000 - clock.now(), 2)


def test_tokens_end_as_time_passes():
    clock = ManualClock()
    ends = TokenEnds(clock)
    assert left(ends, clock) == 0
    ends.note(KEY, 900)
    ends.note("another", 1800)
    assert left(ends, clock) == 900
    clock.advance(899)
    assert left(ends, clock) == 1
    clock.advance(1)
    assert left(ends, clock) == 0


def test_the_last_one_to_end_counts():
    clock = ManualClock()
    ends = TokenEnds(clock)
    ends.note(KEY, 900)
    ends.note(KEY, 60)
    assert left(ends, clock) == 900
    ends.note(KEY, 1800)
    assert left(ends, clock) == 1800


@pytest.mark.parametrize("seconds", [120, DAY, 365 * DAY, -120, -DAY, -365 * DAY])
def test_a_clock_that_is_set_changes_nothing(seconds: float):
    clock = ManualClock()
    ends = TokenEnds(clock)
    ends.note(KEY, 900)
    clock.jump(seconds)
    assert left(ends, clock) == 900
    clock.advance(900)
    assert left(ends, clock) == 0


def test_tokens_that_are_issued_after_a_clock_that_was_ahead_is_set_back_are_waited_for():
    clock = ManualClock()
    ends = TokenEnds(clock)
    clock.jump(DAY)
    ends.note(KEY, 60)
    clock.jump(-DAY)
    ends.note(KEY, 900)
    assert left(ends, clock) == 900


@pytest.mark.parametrize(
    ("lifetime", "silent", "expected"),
    [
        (900, 0, 900),
        (900, 60, 900),
        (900, 7200, 900),
        (900, 365 * DAY, 900),
        (900, -365 * DAY, 900),
        (MONTH, 3600, MONTH - 3600),
        (MONTH, 365 * DAY, DAY),
        (3 * DAY, 2.5 * DAY, DAY),
        (365 * DAY, 0, MONTH),
    ],
)
def test_at_the_start_nobody_knows_whether_time_has_passed_or_the_clock_was_set(
    lifetime: float, silent: float, expected: float
):
    clock = ManualClock()
    noted = {KEY: int((clock.now() + lifetime) * 1000)}
    clock.jump(silent)
    ends = TokenEnds(clock)
    ends.begin(noted, silent)
    assert left(ends, clock) == expected
