"""When it is told that it is not known how a command goes on, and when that is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from trunkline.cli.delivery_notes import DeliveryNotes
from trunkline.cli.unheard_notes import MOST_NOTES, PATIENCE_SECONDS
from trunkline.client.commands import SLOWEST_POLL_SECONDS
from trunkline.client.records.commands import Command

VIRTUAL_TIME = True

REVOKED = "the node is revoked"
RESOLVES = "by its node's own word; deleting the node ends it as LOST"
LINE = f"vm-1: not known how it goes on: {REVOKED}; known {RESOLVES}"
AGAIN = "vm-1: the node answers again"


def command(state: str = "RUNNING", **fields: Any) -> Command:
    return Command.model_validate({"command_id": "c-1", "node": "vm-1", "state": state} | fields)


def unknown(reason: str = REVOKED) -> Command:
    return command("UNKNOWN", reason=reason, unknown={"since": 1, "reason": reason, "resolves": RESOLVES})


async def over() -> None:
    """The patience is over."""
    await asyncio.sleep(PATIENCE_SECONDS + 0.1)


async def test_a_command_whose_node_is_revoked_is_told_of_in_seconds_and_once(
    notes: DeliveryNotes, told: list[str]
) -> None:
    notes.note(command())
    for _ in range(20):
        notes.note(unknown())
        await asyncio.sleep(0.5)
    assert told == [LINE]


async def test_it_is_told_though_the_command_is_not_looked_at_again(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(unknown())
    assert told == []
    await over()
    assert told == [LINE]


@pytest.mark.parametrize("after", ["RUNNING", "SUCCEEDED"])
async def test_a_node_that_is_away_for_a_moment_is_not_told_of(
    notes: DeliveryNotes, told: list[str], after: str
) -> None:
    for _ in range(5):
        notes.note(unknown("the node has no link to this relay"))
        await asyncio.sleep(SLOWEST_POLL_SECONDS)
        notes.note(command(after))
    await over()
    assert told == []


async def test_a_node_that_answers_again_is_told_of(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(unknown())
    await over()
    notes.note(command())
    notes.note(command())
    assert told == [LINE, AGAIN]


async def test_an_end_is_told_of_by_others(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(unknown())
    await over()
    notes.note(command("LOST", reason="the node was deleted"))
    assert told == [LINE]


async def test_another_reason_is_told_at_once_and_none_for_ever(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(unknown())
    await over()
    for number in range(100):
        notes.note(unknown(f"reason {number}"))
    assert [line.partition(";")[0].rpartition(": ")[2] for line in told] == [REVOKED, "reason 0", "reason 1"]
    assert len(told) == MOST_NOTES


async def test_a_reason_cannot_steer_the_terminal(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(unknown("\x1b[2Jcleared\nnew line"))
    await over()
    assert told
    assert all(line.isprintable() for line in told)
