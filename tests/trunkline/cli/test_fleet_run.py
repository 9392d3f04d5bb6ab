"""`trunkline run` on several nodes, `trunkline script` and `trunkline command attach`, against canned answers."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_control_plane import CannedCommand, FakeControlPlane
from tests.trunkline.cli.conftest import Trunkline
from tests.trunkline.cli.test_run import _when
from trunkline.client.scripts import LARGEST_SCRIPT_BYTES


def submitted(fake: FakeControlPlane) -> dict[str, Any]:
    return next(body for method, path, body in fake.requests if method == "POST" and path.endswith("/commands"))


def begun(fake: FakeControlPlane, name: str, state: str = "RUNNING", **fields: Any) -> None:
    """A command of the submission s-1 that somebody submitted before."""
    command = {"command_id": f"s-1.nd-{name}", "submission_id": "s-1", "node": name, "node_id": f"nd-{name}"}
    fake.commands[f"s-1.nd-{name}"] = command | {"state": state} | fields


def test_the_options_become_a_rollout(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.add_node("vm-2")
    options = ["--concurrency", "25%", "--canary", "1", "--wave", "10%", "--wave", "5", "--max-failures", "2"]
    assert trunkline("run", "--all", *options, "--pause", "90s", "--", "true").status == 0
    assert submitted(fake)["rollout"] == {
        "canary": 1,
        "waves": ["10%", 5],
        "max_concurrent": "25%",
        "max_failures": 2,
        "pause_seconds": 90.0,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--all", "--canary", "x"], "'x' is not a number of nodes"),
        (["--all", "--wave", "-1"], "not a number of nodes"),
        (["--all", "--pause", "5m"], "--pause is between waves"),
        (["--node", "vm-1", "--canary", "1"], "one node needs no waves"),
    ],
)
def test_wrong_options_are_wrong_usage(trunkline: Trunkline, options: list[str], said: str) -> None:
    outcome = trunkline("run", *options, "--", "true")
    assert (outcome.status, said in outcome.stderr) == (os.EX_USAGE, True), outcome.stderr


def test_detached_only_the_id_is_printed(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(endless=True))
    fake.add_node("vm-2", CannedCommand(endless=True))
    outcome = trunkline("run", "--all", "--detach", "--id", "s-9", "--", "sleep", "1000")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, b"s-9\n", "")
    as_json = trunkline("run", "--all", "-d", "-o", "json", "--id", "s-9", "--", "sleep", "1000")
    assert json.loads(as_json.stdout) == {"submission_id": "s-9"}


def test_waves_and_ends_are_told_and_summed_up(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    for name in ("vm-1", "vm-2"):
        fake.add_node(name, CannedCommand(stdout=b"out\n"))
    begun(fake, "vm-1", wave=1)
    begun(fake, "vm-2", "RUNNING", wave=2, held=True)
    outcome = trunkline("command", "attach", "s-1")
    assert (outcome.status, sorted(outcome.stdout.splitlines())) == (0, [b"vm-1 | out", b"vm-2 | out"])
    lines = outcome.stderr.splitlines()
    told = ["wave 1 of 2 (canary): vm-1", "vm-1: succeeded", "wave 2 of 2: vm-2", "vm-2: succeeded"]
    assert lines[:4] == [f"trunkline: {line}" for line in told]
    assert lines[4].split() == ["NODE", "WAVE", "STATE", "STATUS", "SECONDS", "REASON"]
    assert lines[5].split() == ["vm-1", "1", "SUCCEEDED", "0", "-", "-"]
    assert lines[-1] == "2 nodes: 2 succeeded"


def test_what_was_never_sent_does_not_hide_why(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    fake.add_node("vm-2")
    begun(fake, "vm-1", "FAILED", exit_code=3, wave=1, start_time=1, end_time=1501)
    begun(fake, "vm-2", "CANCELLED", reason="never sent: the canary did not succeed", wave=2)
    fake.stopped = {"state": "STOPPED", "stop_reason": "the canary did not succeed"}
    outcome = trunkline("command", "attach", "s-1")
    assert outcome.status == 3
    assert outcome.stderr.splitlines()[-3:] == [
        "vm-1  1     FAILED     3       1.5      -",
        "vm-2  2     CANCELLED  -       -        never sent: the canary did not succeed",
        "2 nodes: 1 failed, 1 cancelled; stopped: the canary did not succeed; never sent to 1",
    ]
    assert not any("s-1.nd-vm-2/output" in path for _, path, _ in fake.requests)


def test_json_lines_hold_every_byte_and_every_state(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    contents = {"vm-1": "grüße\n".encode() * 3, "vm-2": b"\xff\x00\x1b[2J"}
    for name, content in contents.items():
        fake.add_node(name, CannedCommand(stdout=content, stderr=b"e\n", exit_code=0))
    outcome = trunkline("run", "--all", "-o", "jsonl", "--id", "s-2", "--", "true")
    events = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert (outcome.status, outcome.stderr) == (0, "")
    assert events[0]["event"] == "submission"
    assert events[-1] == {
        "event": "end",
        "submission_id": "s-2",
        "state": "SUCCEEDED",
        "counts": {"SUCCEEDED": 2},
        "status": 0,
    }
    for name, content in contents.items():
        pieces = [
            one for one in events if one["event"] == "output" and (one["node"], one["stream"]) == (name, "stdout")
        ]
        got = b""
        for piece in pieces:
            assert piece["offset"] == len(got)
            got += piece["text"].encode() if "text" in piece else base64.b64decode(piece["base64"])
        assert got == content
        states = [one["state"] for one in events if one["event"] == "command" and one["node"] == name]
        assert states == ["RUNNING", "SUCCEEDED"]


def test_one_document_in_the_end(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    begun(fake, "vm-1", "FAILED", exit_code=3)
    fake.add_node("vm-1")
    outcome = trunkline("command", "attach", "s-1", "-o", "json")
    document = json.loads(outcome.stdout)
    assert (outcome.status, document["status"], document["submission"]["state"]) == (3, 3, "FAILED")
    assert [one["exit_code"] for one in document["commands"]] == [3]


def test_from_now_leaves_out_what_was_written(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"before after"))
    fake.add_node("vm-2", CannedCommand(stdout=b"all of it"))
    begun(fake, "vm-1", stdout_bytes=7)
    begun(fake, "vm-2", "SUCCEEDED", stdout_bytes=9)
    assert trunkline("command", "attach", "s-1", "--from-now").stdout == b"vm-1 | after\n"


def test_one_command_of_a_submission_can_be_attached_to(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"\x00raw", exit_code=4, state="FAILED"))
    fake.add_node("vm-2", CannedCommand(endless=True))
    begun(fake, "vm-1")
    begun(fake, "vm-2")
    outcome = trunkline("command", "attach", "s-1.nd-vm-1")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (4, b"\x00raw", "")
    assert trunkline("command", "attach", "s-7").status == os.EX_NOINPUT


def test_interrupting_an_attach_leaves_the_commands_alone(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1", CannedCommand(endless=True))
    begun(fake, "vm-1")
    asked = lambda: any("output" in path for _, path, _ in fake.requests)  # noqa: E731
    with _when(asked, lambda: os.kill(os.getpid(), signal.SIGINT)):
        outcome = trunkline("command", "attach", "s-1")
    assert (outcome.status, fake.cancelled) == (130, [])
    assert "it goes on; `trunkline command cancel s-1` ends it" in outcome.stderr


def test_a_submission_is_watched_with_few_requests(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    for number in range(40):
        fake.add_node(f"vm-{number:02}", CannedCommand(stdout=b"x\n"))
    assert trunkline("run", "--all", "--", "true").status == 0
    watches = [path for _, path, _ in fake.requests if "/submissions/" in path]
    assert len(watches) < 40


def test_command_cancel_takes_a_submission_too(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    fake.add_node("vm-1")
    begun(fake, "vm-1")
    assert trunkline("command", "cancel", "s-1").status == 0
    assert fake.cancelled == ["s-1.nd-vm-1"]


def test_submissions_are_listed_shown_and_cancelled(fake: FakeControlPlane, trunkline: Trunkline) -> None:
    listed = trunkline("submission", "list").stdout.decode().splitlines()
    assert listed[0].split() == ["SUBMISSION", "ID", "STATE", "NODES", "COUNTS", "COMMAND", "CREATED"]
    assert listed[1].split() == ["s-1", "RUNNING", "2", "RUNNING=2", "true", "-"]
    fake.add_node("vm-1")
    begun(fake, "vm-1")
    assert "counts.RUNNING" in trunkline("submission", "get", "s-1").stdout.decode()
    assert json.loads(trunkline("submission", "cancel", "s-1", "-o", "json").stdout)["state"] == "FAILED"
    assert fake.cancelled == ["s-1.nd-vm-1"]


def test_a_script_travels_as_standard_input(fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path) -> None:
    fake.add_node("vm-1", CannedCommand(stdout=b"done\n"))
    file = tmp_path / "deploy $(id).sh"
    file.write_bytes(b'echo "$1"\x00\'\n')
    outcome = trunkline("script", "--node", "vm-1", "--env", "A=1", str(file), "--", "a b", "--", "$(id)")
    assert (outcome.status, outcome.stdout) == (0, b"done\n")
    body = submitted(fake)
    assert base64.b64decode(body["stdin"]) == file.read_bytes()
    assert body["argv"][3:] == ["deploy $(id).sh", "12", "/bin/sh", "a b", "--", "$(id)"]
    assert body["environment"] == {"A": "1"}


@pytest.mark.parametrize("size", [0, LARGEST_SCRIPT_BYTES + 1])
def test_a_script_has_a_size(fake: FakeControlPlane, trunkline: Trunkline, tmp_path: Path, size: int) -> None:
    fake.add_node("vm-1")
    file = tmp_path / "x.sh"
    file.write_bytes(b"#" * size)
    outcome = trunkline("script", "--node", "vm-1", str(file))
    assert (outcome.status, "a script has 1 to 524288 bytes" in outcome.stderr) == (os.EX_DATAERR, True)
    assert trunkline("script", "--node", "vm-1", str(tmp_path / "none")).status == os.EX_NOINPUT
