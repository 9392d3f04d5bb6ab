from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from node_agent.rules.schedule import Window, is_open

BERLIN = ZoneInfo("Europe/Berlin")


def window(**fields):
    return Window.model_validate(fields)


def at(day, hour, minute=0, *, month=11, zone=BERLIN):
    return datetime(2026, month, day, hour, minute, tzinfo=zone).timestamp()


def test_a_window_within_a_day():
    office = window(days=["mon", "wed"], start="09:00", end="17:30", time_zone="Europe/Berlin")
    assert office.contains(at(25, 9))  # a Wednesday
    assert office.contains(at(25, 17, 29))
    assert not office.contains(at(25, 17, 30))
    assert not office.contains(at(25, 8, 59))
    assert not office.contains(at(26, 12))


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins():
    night = window(days=["fri"], start="22:00", end="06:00", time_zone="Europe/Berlin")
    assert night.contains(at(27, 22))
    assert night.contains(at(28, 5, 59))
    assert not night.contains(at(28, 6))
    assert not night.contains(at(27, 5))
    assert not night.contains(at(28, 22))
    assert window(days=["sun"], start="22:00", end="06:00").contains(at(30, 1, zone=ZoneInfo("UTC")))


def test_a_whole_day_and_its_time_zone():
    saturday = window(days=["sat"], time_zone="Pacific/Auckland")
    assert saturday.contains(at(27, 11, zone=ZoneInfo("UTC")))  # there it is Saturday, 00:00
    assert not saturday.contains(at(27, 10, 59, zone=ZoneInfo("UTC")))


def test_times_are_those_of_clocks_on_the_wall():
    morning = window(start="08:00", end="09:00", time_zone="Europe/Berlin")
    assert morning.contains(at(1, 6, 30, month=7, zone=ZoneInfo("UTC")))
    assert not morning.contains(at(1, 6, 30, month=12, zone=ZoneInfo("UTC")))


def test_any_window_opens_a_schedule_and_none_is_always():
    schedule = (window(days=["mon"]), window(days=["tue"]))
    assert is_open(schedule, at(24, 12))
    assert not is_open(schedule, at(25, 12))
    assert is_open(None, 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"days": []},
        {"days": ["Monday"]},
        {"start": "9:00"},
        {"start": "24:00", "end": "06:00"},
        {"end": "24:01"},
        {"start": "08:00", "end": "08:00"},
        {"time_zone": "Mars/Olympus"},
        {"time_zone": "../../etc/passwd"},
        {"time_zone": "/etc/localtime"},
        {"day": ["mon"]},
    ],
)
def test_what_an_owner_cannot_mean(fields):
    with pytest.raises(ValidationError):
        window(**fields)
