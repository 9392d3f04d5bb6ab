"""Schedules: the times of the week in which something is allowed, in the owner's time zone."""

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from node_agent.rules.base import Array, Rules

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
TimeOfDay = Annotated[str, Field(pattern=r"^(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")]


class Window(Rules):
    """From `start` to `end` (not included) on each of the days; one that ends at or before its start ends a day later.

    Times are those of clocks on the wall: where clocks are put back, an hour that comes twice counts twice.
    """

    days: Annotated[tuple[Day, ...], Array, Field(min_length=1, max_length=7)] = DAYS
    start: TimeOfDay = "00:00"
    end: TimeOfDay = "24:00"
    time_zone: str = Field(default="UTC", max_length=64)

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        _zone(value)
        return value

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.start in (self.end, "24:00"):
            raise ValueError("a window begins before 24:00, and at another time than it ends")
        return self

    def contains(self, now: float) -> bool:
        """Whether the moment `now`, in seconds since the epoch, is within."""
        local = datetime.fromtimestamp(now, _zone(self.time_zone))
        minute, start, end = local.hour * 60 + local.minute, _minutes(self.start), _minutes(self.end)
        today, yesterday = DAYS[local.weekday()], DAYS[local.weekday() - 1]
        if start < end:
            return today in self.days and start <= minute < end
        return (today in self.days and minute >= start) or (yesterday in self.days and minute < end)

    def __str__(self) -> str:
        return f"{','.join(self.days)} {self.start}-{self.end} {self.time_zone}"


Schedule = Annotated[tuple[Window, ...], Array, Field(min_length=1, max_length=32)]


def is_open(schedule: Sequence[Window] | None, now: float) -> bool:
    """Whether a moment is within one of the windows; without a schedule every moment is."""
    return schedule is None or any(window.contains(now) for window in schedule)


def _minutes(time_of_day: str) -> int:
    return int(time_of_day[:2]) * 60 + int(time_of_day[3:])


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # also where the system has no time zones
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f"{name!r} is not a time zone of this system, such as Europe/Berlin or UTC") from None
