"""The events of a command: what has happened to it, read off from how it stood before a change and stands after it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from control_plane.storage.records.commands import Command

UNKNOWN = "UNKNOWN"


class EventKind(StrEnum):
    """Everything that can have happened."""

    RECORDED = "recorded"
    DELIVERED = "delivered"
    STARTED = "started"
    UNKNOWN = "unknown"
    KNOWN_AGAIN = "known_again"
    CANCEL_ASKED = "cancel_asked"
    CANCELLING = "cancelling"
    ENDED = "ended"
    OUTPUT_KEPT = "output_kept"
    OUTPUT_GONE = "output_gone"
    NOT_RECORDED = "not_recorded"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that has happened, with what is to be said of it."""

    kind: EventKind
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a command stood at one moment."""

    state: str
    delivered: bool
    final: bool
    start_time: int | None

    @classmethod
    def of(cls, command: Command) -> Self:
        """Return how the command stands now."""
        return cls(command.state, command.delivered, command.final, command.start_time)


def events_between(before: Standing, command: Command) -> list[Event]:
    """Return what has happened to the command since it stood as `before`, in order."""
    events = []
    if command.delivered and not before.delivered:
        events.append(Event(EventKind.DELIVERED))
    if before.state == UNKNOWN and command.state != UNKNOWN and before.delivered:
        events.append(Event(EventKind.KNOWN_AGAIN, {"state": command.state}))
    if command.start_time is not None and before.start_time is None:
        events.append(Event(EventKind.STARTED, {"start_time": command.start_time}))
    if command.state == "CANCELLING" and before.state != "CANCELLING":
        events.append(Event(EventKind.CANCELLING))
    if command.state == UNKNOWN and before.state != UNKNOWN:
        events.append(Event(EventKind.UNKNOWN, _said(command, "reason")))
    if command.final and not before.final:
        dropped = ("stdout_dropped_bytes", "stderr_dropped_bytes")
        ending = _said(command, "exit_code", "signal", "reason", "end_time", "stdout_bytes", "stderr_bytes", *dropped)
        events.append(Event(EventKind.ENDED, {"state": command.state} | ending))
    return events


def _said(command: Command, *names: str) -> dict[str, Any]:
    found = {name: getattr(command, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}
