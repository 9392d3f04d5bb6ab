"""Results as tables and as JSON."""

from __future__ import annotations

import json
import os
import re
import sys

import pytest

from trunkline.cli.output import print_record, print_records, print_tree
from trunkline.client.records.init_scripts import InitScript
from trunkline.client.records.nodes import NodeHealth, NodePolicy
from trunkline.client.records.workspaces import Workspace

_SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_documents_in_documents_are_named_by_their_paths(capsys: pytest.CaptureFixture[str]) -> None:
    health = NodeHealth.model_validate({"status": "ok", "pressure": {"cpu": {"some": {"avg10": 0.5, "avg60": 1.0}}}})
    print_record(health, "table")
    assert "cpu.some.avg10=0.5, cpu.some.avg60=1.0" in capsys.readouterr().out
    print_record(health, "json")
    assert json.loads(capsys.readouterr().out)["pressure"] == {"cpu": {"some": {"avg10": 0.5, "avg60": 1.0}}}


def test_headings_are_words(capsys: pytest.CaptureFixture[str]) -> None:
    workspace = Workspace.model_validate({"workspace_id": "ws-1", "workspace": "main", "creation_time": 0})
    print_records("workspaces", [workspace], ("workspace", "workspace_id", "creation_time"), "table")
    assert capsys.readouterr().out.splitlines()[0].split("  ") == ["WORKSPACE", "WORKSPACE ID", "CREATED"]


def test_times_and_truth_values_are_those_of_people(capsys: pytest.CaptureFixture[str]) -> None:
    script = InitScript.model_validate(
        {"script_id": "is-1", "name": "a", "enabled": True, "updated_at": 1_800_000_000_000}
    )
    print_records("scripts", [script], ("enabled", "updated_at"), "table")
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=1) == ["true", "2027-01-15 08:00:00Z"]


def test_a_time_of_a_node_that_is_none_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_record(NodeHealth.model_validate({"boot_time": 2**53 - 1, "start_time": 10**400}), "table")
    assert str(2**53 - 1) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[/red]", "[link=https://example.test]x[/link]"])
def test_names_that_a_node_chose_are_shown_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_tree(NodePolicy.model_validate({"commands": {name: "1"}}), "table")
    assert f"commands.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["1", "40", "80"])
def test_a_list_is_whole_on_a_narrow_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    controlling, terminal = os.openpty()
    names = [f"a-name-that-is-long-{number}" for number in range(2)]
    records = [
        Workspace.model_validate({"workspace_id": f"ws-{'x' * 40}", "workspace": name, "creation_time": 0})
        for name in names
    ]
    with os.fdopen(terminal, "w") as output, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output)
        print_records("workspaces", records, ("workspace", "workspace_id", "creation_time"), "table")
    lines = _SGR.sub("", os.read(controlling, 10_000).decode()).splitlines()
    os.close(controlling)
    assert [line.split() for line in lines[1:]] == [[name, f"ws-{'x' * 40}", "-"] for name in names]
    assert all(line == line.rstrip() for line in lines)
