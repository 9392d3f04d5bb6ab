import pytest

from trunkline.runtime.clock import ManualClock, SystemClock


def test_the_system_clock_goes_forwards():
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.now() > 1_700_000_000


def test_a_manual_clock_moves_when_told():
    clock = ManualClock(now=100.0, monotonic=5.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 7.5)
    clock.jump(-50)
    assert (clock.now(), clock.monotonic()) == (52.5, 7.5)
    with pytest.raises(ValueError, match="forwards"):
        clock.advance(-1)
