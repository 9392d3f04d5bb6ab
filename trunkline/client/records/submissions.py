"""Submissions, and the rollouts of their commands."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from trunkline.client.command_words import command_words
from trunkline.client.records.record import Record


class Wave(Record):
    """One wave of a rollout, counted from 1, and how many of its commands are in which state."""

    wave: int
    nodes: int = 0
    counts: dict[str, int] = Field(default_factory=dict)


class RolloutProgress(Record):
    """A rollout with every share as a number, and the wave that is under way; `next_wave_time` ends a pause."""

    max_concurrent: int = 0
    max_failures: int | None = None
    pause_seconds: float = 0.0
    canary: bool = False
    wave: int = 1
    next_wave_time: int | None = None
    waves: tuple[Wave, ...] = ()


class Submission(Record):
    """What was submitted as a whole: RUNNING until every command has ended, then SUCCEEDED, FAILED or STOPPED."""

    submission_id: str
    state: str
    argv: list[str] = Field(default_factory=list)
    named: str | None = None
    parameters: dict[str, Any] | None = None
    secrets: dict[str, dict[str, str]] | None = None
    submitted_by: str | None = None
    creation_time: int = 0
    nodes: int = 0
    counts: dict[str, int] = Field(default_factory=dict)
    stop_reason: str | None = None
    rollout: RolloutProgress | None = None
    revision: str = ""

    @property
    def command(self) -> list[str]:
        """What was asked for, as people read it; see `command_words`."""
        return command_words(self.argv, self.named, self.parameters)

    @property
    def ended(self) -> bool:
        """Whether every command has ended."""
        return self.state != "RUNNING"
