"""The clock is compared with the control plane's, and complained about when it is certainly wrong."""

import ssl

import pytest

from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.clock import ManualClock

DATE = "Thu, 01 Jan 1970 00:16:40 GMT"  # 1000


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("Thu, 01 Jan 1970 00:01:40 GMT", 50.5),
        ("Thu, 01 Jan 1970 00:00:40 GMT", -9.5),
        (None, None),
        ("yesterday", None),
        ("Thu, 99 Jan 1970 00:01:40 GMT", None),
    ],
)
def test_the_offset_is_that_of_the_middle_of_the_round_trip(date, seconds):
    offset = ClockOffset(ManualClock())
    offset.observe(date, 49.0, 51.0)
    assert offset.seconds == seconds


def observed(clock: ManualClock, round_trip_seconds: float = 0.0) -> ClockOffset:
    offset = ClockOffset(clock)
    offset.observe(DATE, clock.now() - round_trip_seconds, clock.now())
    return offset


@pytest.mark.parametrize(
    ("behind", "words"), [(300, "300 s behind"), (-300, "300 s ahead of"), (-90 * 86400, "7776000 s ahead of")]
)
def test_a_wrong_clock_is_told_by_how_much(behind: int, words: str):
    complaint = observed(ManualClock(1000.5 - behind)).complaint()
    assert complaint is not None
    assert complaint.startswith("clock_skew: ")
    assert words in complaint


@pytest.mark.parametrize("behind", [-60, -30, 0, 30, 60])
def test_a_minute_is_tolerated(behind: int):
    offset = observed(ManualClock(1000.5 - behind))
    assert not offset.is_skewed
    assert offset.complaint() is None


def test_a_slow_answer_makes_no_skew():
    assert not observed(ManualClock(1000.5 + 65), round_trip_seconds=20).is_skewed


def test_before_any_answer_nothing_is_known():
    offset = ClockOffset(ManualClock())
    assert (offset.seconds, offset.is_skewed, offset.complaint()) == (None, False, None)


def test_the_estimate_follows_a_clock_that_is_set():
    clock = ManualClock(1000.5)
    offset = observed(clock)
    clock.jump(86400)
    assert offset.seconds == -86400
    clock.advance(100)
    assert offset.seconds == -86400
    clock.jump(-86400)
    assert offset.complaint() is None


def error(code: int) -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError("certificate verify failed")
    made.verify_code = code
    return made


def test_a_certificate_out_of_its_time_is_a_matter_of_the_clock():
    clock = ManualClock(1000.5)
    offset = observed(clock)
    assert "not valid at 1970-01-01T00:16:40+00:00" in (offset.complaint_about(error(9)) or "")
    clock.jump(90 * 86400)
    assert "7776000 s ahead" in (offset.complaint_about(error(10)) or "")
    assert offset.complaint_about(error(20)) is None
    assert offset.complaint_about(OSError()) is None
