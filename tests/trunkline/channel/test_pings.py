import pytest

from trunkline.channel.limits import Limits
from trunkline.channel.pings import Pings


def test_the_round_trip_falls_at_once_and_rises_slowly():
    pings = Pings(Limits(), None, 0.0)
    for sent_at, rtt, expected in ((1.0, 0.1, 0.1), (2.0, 0.05, 0.05), (2.1, 0.7, 0.0511), (3.0, 1.0, 0.0527)):
        assert pings.answered(pings.start(sent_at), sent_at + rtt) == pytest.approx(rtt)
        assert pings.rtt_seconds == pytest.approx(expected, abs=1e-4)
    assert pings.answered(pings.start(30.0), 30.01) == pytest.approx(0.01)
    assert pings.rtt_seconds == pytest.approx(0.01)


def test_the_round_trip_rises_only_as_long_as_it_is_looked_at():
    pings = Pings(Limits(), None, 0.0)
    pings.answered(pings.start(1.0), 1.1)
    pings.answered(pings.start(5000.0), 5003.0)
    assert pings.rtt_seconds == pytest.approx(0.103, abs=1e-4)


def test_a_way_that_has_become_longer_is_known_once_the_link_is_quiet():
    pings = Pings(Limits(), 8.0, 0.0)
    pings.answered(pings.start(0.0), 0.001)
    pings.heard_at = 0.001
    pings.answered(pings.measure(2.0), 2.3)
    assert pings.rtt_seconds == pytest.approx(0.001, abs=0.001), "what is under way may be what the answer waited for"
    pings.answered(pings.measure(70.0, quiet=True), 70.3)
    assert pings.rtt_seconds == pytest.approx(0.3)
    pings.heard_at = 70.3
    pings.answered(pings.start(78.3), 78.9)
    assert pings.rtt_seconds == pytest.approx(0.6), "nothing has come for so long that a sign of life was asked for"
    pings.heard_at = 78.9
    pings.answered(pings.start(79.0), 80.0)
    assert pings.rtt_seconds == pytest.approx(0.6, abs=0.02)


def test_the_round_trip_is_measured_now_and_then():
    pings = Pings(Limits(), None, 0.0)
    assert pings.measurement_due(0.0, 0.5)
    ping_id = pings.measure(0.0)
    assert not pings.measurement_due(10.0, 0.5), "one is under way"
    assert pings.answered(ping_id, 0.1) == pytest.approx(0.1)
    assert pings.rtt_seconds == pytest.approx(0.1)
    assert pings.answered(ping_id, 0.2) is None
    assert not pings.measurement_due(0.4, 0.5)
    assert pings.measurement_due(0.5, 0.5)
    assert not pings.measurement_due(0.5, 60.0)


def test_a_measurement_has_no_deadline():
    pings = Pings(Limits(ping_timeout_seconds=5.0), 8.0, 0.0)
    pings.measure(1.0)
    assert pings.deadline() == 8.0
    assert not pings.peer_is_silent(7.0)
    assert pings.keepalive_due(8.0)


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
