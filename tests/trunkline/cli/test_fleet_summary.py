"""The summary of a submission: what nodes say in it is text, whatever it looks like."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from trunkline.cli.fleet_summary import print_summary
from trunkline.client.records.commands import Command
from trunkline.client.records.submissions import Submission
from trunkline.client.submissions import Standing


def summary(reason: str, width: int = 200) -> str:
    """What is printed, on a terminal, of a command that its node ended with this reason."""
    command = Command.model_validate(
        {"command_id": "c", "submission_id": "s", "node_id": "nd-1", "node": "vm-1", "state": "LOST", "argv": ["x"],
         "submit_time": 1, "reason": reason}
    )  # fmt: skip
    shown = io.StringIO()
    standing = Standing(Submission(submission_id="s", state="FAILED", nodes=1, counts={"LOST": 1}), [command])
    print_summary(standing, Console(file=shown, force_terminal=True, width=width, highlight=False))
    return shown.getvalue()


@pytest.mark.parametrize("reason", ["[/red]", "[link=https://example.test]see[/link]", "[bold]x", "[/]"])
def test_a_reason_is_shown_as_it_is_and_never_read_as_markup(reason: str) -> None:
    shown = summary(reason)
    assert reason in shown
    assert "\x1b]8;" not in shown, "no link"


def test_a_long_reason_takes_no_name_away() -> None:
    lines = summary("r" * 300, width=80).splitlines()
    assert "vm-1" in lines[1]
    assert "LOST" in lines[1]
    assert "r" * 300 in lines[1]
    assert len(re.sub(r"\x1b\[[0-9;]*m", "", lines[0])) < 80, "no spaces up to the longest reason"
