"""Results as tables and as JSON."""

from __future__ import annotations

import json

import pytest

from trunkline.cli.output import print_record, print_records, print_tree
from trunkline.client.records.nodes import NodeHealth, NodePolicy
from trunkline.client.records.workspaces import Workspace


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


def test_a_time_of_a_node_that_is_none_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_record(NodeHealth.model_validate({"boot_time": 2**53 - 1, "start_time": 10**400}), "table")
    assert str(2**53 - 1) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["[/red]", "[link=https://example.test]x[/link]"])
def test_names_that_a_node_chose_are_shown_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_tree(NodePolicy.model_validate({"commands": {name: "1"}}), "table")
    assert f"commands.{name}" in capsys.readouterr().out
