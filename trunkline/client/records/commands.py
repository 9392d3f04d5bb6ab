"""Commands, their states, what happened to them, and how far their input and output are."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field

from trunkline.client.command_words import command_words
from trunkline.client.records.record import Record


class CommandState(StrEnum):
    """Where a command is in its life; a state of a later release is `UNKNOWN` to this one."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> CommandState | None:
        return cls.UNKNOWN if isinstance(value, str) else None

    @property
    def final(self) -> bool:
        """Whether the command will never leave this state."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset(
    {
        CommandState.SUCCEEDED,
        CommandState.FAILED,
        CommandState.TIMED_OUT,
        CommandState.CANCELLED,
        CommandState.LOST,
    }
)


class UnknownState(Record):
    """Since when and why it is not known how a command is, and how that will be known.

    `resolves_by` is set where it certainly will be known by then, and None where nobody can promise it.
    """

    since: int
    reason: str = ""
    resolves: str = ""
    resolves_by: int | None = None


class CommandEvent(Record):
    """One thing that happened to a command: recorded, delivered, started, unknown, ended, …"""

    event_id: int
    time: int = 0
    event: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class Command(Record):
    """A process run, or to be run, on one node; `unknown` is set while its state is UNKNOWN.

    What was written beyond a bound, or when a disk was full, was dropped: the output is whole up to there.
    """

    command_id: str
    submission_id: str = ""
    wave: int | None = None
    held: bool = False
    node_id: str = ""
    node: str = ""
    state: CommandState
    argv: list[str] = Field(default_factory=list)
    named: str | None = None
    parameters: dict[str, str | int | bool] | None = None
    secrets: dict[str, dict[str, str]] | None = None
    exit_code: int | None = None
    signal: int | str | None = None
    reason: str | None = None
    unknown: UnknownState | None = None
    submit_time: int | None = None
    deliver_before: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0
    submitted_by: str | None = None

    @property
    def command(self) -> list[str]:
        """What was asked for, as people read it; see `command_words`."""
        return command_words(self.argv, self.named, self.parameters)


class InputStanding(Record):
    """How far the standard input of a command has come at its node.

    Attributes:
        received_bytes: how much of it the node has, on its disk.
        complete: whether it has the end of it too.
        closed: whether the command reads nothing any more.
    """

    received_bytes: int
    complete: bool
    closed: bool = False


class OutputTime(Record):
    """The bytes of an output from `offset` on were written at `time` (ms since the epoch) or later.

    And before the time of the next one.
    """

    offset: int
    time: int
