import pytest

from trunkline.channel.limits import Limits
from trunkline.channel.pings import Pings


def test_the_round_trip_falls_at_once_and_rises_slowly():
    pings = Pings(Limits(), None, 0.0)
    for rtt, expected in ((0.1, 0.1), (0.05, 0.05), (10.0, 0.0625), (0.01, 0.01)):
        assert pings.answered(pings.start(1.0), 1.0 + rtt) == pytest.approx(rtt)
        assert pings.rtt_seconds == pytest.approx(expected, abs=1e-4)


def test_an_answer_to_nothing_is_none():
    pings = Pings(Limits(), None, 0.0)
    assert pings.answered(5, 1.0) is None
    ping_id = pings.start(1.0)
    pings.answered(ping_id, 2.0)
    assert pings.answered(ping_id, 3.0) is None


def test_pings_in_flight_are_bounded():
    pings = Pings(Limits(max_pings_in_flight=4), None, 0.0)
    first = pings.start(0.0)
    for now in range(1, 10):
        pings.start(now)
    assert len(pings) == 4
    assert pings.answered(first, 10.0) is None


def test_without_keepalive_and_pings_nothing_is_ever_due():
    pings = Pings(Limits(), None, 0.0)
    assert pings.deadline() is None
    assert not pings.keepalive_due(1e9)
    assert not pings.peer_is_silent(1e9)


def test_a_late_look_at_the_clock_is_excused_once():
    pings = Pings(Limits(ping_timeout_seconds=5.0), 15.0, 0.0)
    pings.start(15.0)
    assert not pings.peer_is_silent(100.0)
    assert pings.deadline() == 105.0
    assert not pings.peer_is_silent(104.0)
    assert pings.peer_is_silent(200.0)
