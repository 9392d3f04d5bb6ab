"""What is told of commands whose delivery waits, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.cli.delivery_notes import MOST_NOTES, DeliveryNotes
from trunkline.client.errors import ApiError
from trunkline.client.records.commands import Command


def command(**fields: Any) -> Command:
    waiting = {"command_id": "c-1", "node": "vm-1", "state": "UNKNOWN", "reason": "it is offline", "deliver_before": 1}
    return Command.model_validate(waiting | fields)


def test_a_reason_is_told_once_and_another_too(notes: DeliveryNotes, told: list[str]) -> None:
    for reason in ("it is offline", "it is offline", "its disk is full", "it is offline"):
        notes.note(command(reason=reason))
    assert [line.split(" (")[0] for line in told] == [
        "vm-1: not delivered yet: it is offline",
        "vm-1: not delivered yet: its disk is full",
    ]


def test_each_node_is_told_of(notes: DeliveryNotes, told: list[str]) -> None:
    for number in range(3):
        notes.note(command(command_id=f"c.{number}", node=f"vm-{number}"))
    assert [line.split(":")[0] for line in told] == ["vm-0", "vm-1", "vm-2"]


def test_reasons_that_always_change_are_not_told_for_ever(notes: DeliveryNotes, told: list[str]) -> None:
    for number in range(100):
        notes.note(command(reason=f"reason {number}"))
    assert len(told) == MOST_NOTES


def test_a_reason_cannot_steer_the_terminal(notes: DeliveryNotes, told: list[str]) -> None:
    notes.note(command(reason="\x1b[2Jcleared\nnew line"))
    assert all(line.isprintable() for line in told)
    assert told


@pytest.mark.parametrize(
    "fields",
    [
        {"reason": None},
        {"reason": ""},
        {"deliver_before": None, "state": "RUNNING"},
        {"deliver_before": None, "state": "LOST"},
    ],
)
def test_what_does_not_wait_for_its_delivery_is_not_told_of(
    notes: DeliveryNotes, told: list[str], fields: dict[str, Any]
) -> None:
    notes.note(command(**fields))
    assert told == []


def test_what_is_missing_of_an_output_names_commands_and_no_requests(notes: DeliveryNotes, told: list[str]) -> None:
    gone = "there is no such workspace; GET /api/2.0/accounts/a/workspaces lists what there is"
    notes.output_failed(command(), ApiError(404, "RESOURCE_DOES_NOT_EXIST", gone))
    [line] = told
    assert line.startswith("vm-1: its output is not whole: there is no such workspace; `trunkline workspace list`")
