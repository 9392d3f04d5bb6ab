"""Fleet runs with real daemons: rollouts that stop, that keep their bounds, and that outlive who began them."""

import json
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandboxes import Sandbox, running_sandbox, wait_until

NODES = ("vm-1", "vm-2", "vm-3", "vm-4")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with four nodes."""
    with running_sandbox(tmp_path_factory.mktemp("fleet") / "state", nodes=len(NODES)) as running:
        yield running


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all nodes' commands can write to, whoever they run as: they are processes of this machine.

    It is none of pytest's, which every session that begins closes to others.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-fleet-") as directory:
        Path(directory).chmod(0o777)
        yield Path(directory)


def events(content: bytes, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in content.splitlines()]
    return [event for event in found if event["event"] == kind]


def commands_of(fleet: Sandbox, submission_id: str) -> dict[str, dict[str, Any]]:
    listed = fleet.json("command", "list")["commands"]
    return {one["node"]: one for one in listed if one["submission_id"] == submission_id}


def test_a_canary_that_fails_keeps_the_others_from_ever_hearing_of_it(fleet: Sandbox, shared: Path) -> None:
    script = f"echo ran >> {shared}/ran; exit 3"
    finished = fleet.trunkline("run", "--all", "--canary", "1", "-o", "jsonl", "--", "sh", "-c", script, check=False)
    assert finished.returncode == 3, finished.stderr
    assert (shared / "ran").read_text() == "ran\n"
    [end] = events(finished.stdout, "end")
    assert (end["state"], end["stop_reason"]) == ("STOPPED", "the canary did not succeed")
    assert end["counts"] == {"CANCELLED": 3, "FAILED": 1}
    commands = commands_of(fleet, end["submission_id"])
    assert commands["vm-1"]["state"] == "FAILED"
    for node in NODES[1:]:
        assert commands[node]["reason"] == "never sent: the canary did not succeed"
        assert not list((fleet.state / "nodes" / node / "state").glob(f"commands/*{commands[node]['command_id']}*"))


def test_no_more_run_at_once_than_were_asked_for(fleet: Sandbox, shared: Path) -> None:
    """Each node counts on the disk who runs while it does."""
    script = f"touch {shared}/run-$$; sleep 0.3; ls {shared} | grep -c ^run- >> {shared}/counts; rm {shared}/run-$$"
    finished = fleet.trunkline("run", "--all", "--concurrency", "50%", "--", "sh", "-c", script)
    assert b"4 nodes: 4 succeeded" in finished.stderr
    counts = [int(line) for line in (shared / "counts").read_text().split()]
    assert len(counts) == 4
    assert max(counts) <= 2


def test_a_detached_run_is_attached_to_with_its_whole_output(fleet: Sandbox) -> None:
    script = "for n in $(seq 300); do echo $n; done; sleep 1; echo last"
    submitted = fleet.trunkline("run", "--all", "--canary", "1", "--wave", "2", "--detach", "--", "sh", "-c", script)
    submission_id = submitted.stdout.decode().strip()
    expected = {f"{node} | {line}" for node in NODES for line in [*range(1, 301), "last"]}
    first = fleet.trunkline("command", "attach", submission_id)
    again = fleet.trunkline("command", "attach", submission_id)
    for attached in (first, again):
        lines = attached.stdout.decode().splitlines()
        assert len(lines) == len(expected)
        assert set(lines) == expected


def test_a_rollout_outlives_the_control_plane_and_who_watches_it_notices_nothing(fleet: Sandbox, shared: Path) -> None:
    script = f"echo $$ >> {shared}/began; sleep 0.5; echo done"
    submission_id = f"s-{uuid.uuid4()}"
    watching = fleet.start(
        "run", "--all", "--id", submission_id, "--wave", "1", "-o", "jsonl", "--", "sh", "-c", script
    )
    began = shared / "began"
    wait_until(lambda: began.exists() and len(began.read_text().splitlines()) >= 2, "the second wave has begun")
    fleet.kill("control_plane")
    stdout, stderr = watching.communicate(timeout=90)
    assert watching.returncode == 0, stderr.decode()
    assert len(began.read_text().splitlines()) == len(NODES), "each node once"
    [end] = events(stdout, "end")
    assert (end["state"], end["counts"]) == ("SUCCEEDED", {"SUCCEEDED": 4})
    assert [event["wave"] for event in events(stdout, "wave")] == [1, 2, 3, 4]
    outputs = events(stdout, "output")
    assert sorted((event["node"], event["text"]) for event in outputs) == [(node, "done\n") for node in NODES]


def test_a_script_runs_everywhere_and_leaves_nothing(fleet: Sandbox, tmp_path: Path) -> None:
    script = tmp_path / "count.sh"
    script.write_text('#!/bin/sh\necho "$# $2"\nls -d "${TMPDIR:-/tmp}"/tmp.*/script 2>/dev/null\nexit 5\n')
    words = ["--", str(script), "a", "$(id) ' \""]
    finished = fleet.trunkline("script", "--all", "--concurrency", "1", *words, check=False)
    assert finished.returncode == 5, finished.stderr
    assert sorted(finished.stdout.decode().splitlines()) == [f"{node} | 2 $(id) ' \"" for node in NODES]
