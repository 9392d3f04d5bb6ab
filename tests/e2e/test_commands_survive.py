"""Commands of a real node, whose agent and supervisors are killed and replaced under them."""

import json
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.sandboxes import Sandbox, add_command_rules, running_sandbox, wait_until
from tests.support.supervisors import alive
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.sync import connect

NODE = "vm-1"
MANY = 20
SLOTS = 12


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with one node, which these tests break."""
    with running_sandbox(tmp_path_factory.mktemp("survive") / "state", nodes=1) as running:
        add_command_rules(running, NODE, f"max_concurrent = {SLOTS}")
        yield running


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that commands, which run as nobody, can write to."""
    directory = Path(tempfile.mkdtemp(prefix="trunkline-survive-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def commands_of(sandbox: Sandbox) -> Path:
    return sandbox.state / "nodes" / NODE / "state" / "commands"


def start(sandbox: Sandbox, script: str, *options: str) -> tuple[str, Any]:
    command_id = f"c-{uuid.uuid4().hex[:12]}"
    process = sandbox.start("run", "--node", NODE, "--id", command_id, *options, "--", "sh", "-c", script)
    return command_id, process


def replaced(sandbox: Sandbox, number: signal.Signals) -> None:
    """End the agent, and wait until the next one is ready."""
    pid = sandbox.pid(NODE)
    os.kill(pid, number)
    endpoints = sandbox.state / "nodes" / NODE / "state" / "endpoints.json"
    wait_until(lambda: json.loads(endpoints.read_bytes())["pid"] not in (pid, 0) and sandbox.pid(NODE) != pid, "ready")


def supervisor_of(sandbox: Sandbox, command_id: str) -> int:
    return int(json.loads((commands_of(sandbox) / command_id / "claim.json").read_bytes())["pid"])


def lines_of(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_output_and_status_are_right_though_the_agent_was_replaced_in_the_middle(
    node: Sandbox, place: Path, number: signal.Signals
) -> None:
    go = place / "go"
    script = f"seq 1 20000; touch {place}/here; while ! test -e {go}; do sleep 0.05; done; seq 20001 40000; exit 9"
    command_id, running = start(node, script)
    wait_until((place / "here").exists, "half of the output")
    before = supervisor_of(node, command_id)
    replaced(node, number)
    assert supervisor_of(node, command_id) == before
    assert alive(before)
    go.touch()
    stdout, _ = running.communicate(timeout=60)
    assert running.returncode == 9
    assert stdout == b"".join(b"%d\n" % line for line in range(1, 40001))


def test_an_upgrade_under_many_commands_loses_none_and_repeats_none(node: Sandbox, place: Path) -> None:
    go, ran = place / "go", place / "ran"
    script = f"echo $TRUNKLINE_COMMAND_ID >> {ran}; while ! test -e {go}; do sleep 0.1; done; echo done"
    names = [f"up-{number}-{uuid.uuid4().hex[:8]}" for number in range(MANY)]
    description = node.description
    token = Path(description["admin_token_file"]).read_text().strip()
    with connect(description["control_plane_url"], token, ca_file=description["ca_file"]) as plane:
        commands = plane.workspace("main").commands
        for name in names:
            commands.submit(Target(node=NODE), CommandRequest(command_id=name, argv=["sh", "-c", script]))
    wait_until(lambda: len(lines_of(ran)) == SLOTS, "all slots are taken")
    replaced(node, signal.SIGTERM)
    replaced(node, signal.SIGKILL)
    go.touch()

    def states() -> dict[str, str]:
        listed = node.json("command", "list")["commands"]
        return {command["command_id"]: command["state"] for command in listed if command["command_id"] in names}

    wait_until(lambda: set(states().values()) == {"SUCCEEDED"} and len(states()) == MANY, "all have ended well", 60)
    assert sorted(lines_of(ran)) == sorted(names), "each ran exactly once"
    assert all(node.trunkline("command", "output", name).stdout == b"done\n" for name in names)


def test_a_killed_supervisor_means_lost_and_no_orphan(node: Sandbox, place: Path) -> None:
    script = f"trap '' TERM; setsid sleep 617 & (setsid sleep 617 &) ; touch {place}/here; sleep 617"
    command_id, running = start(node, script)
    wait_until((place / "here").exists, "it runs")
    os.kill(supervisor_of(node, command_id), signal.SIGKILL)
    _, stderr = running.communicate(timeout=60)
    assert b"its supervisor ended before the command did" in stderr
    assert node.json("command", "get", command_id)["state"] == "LOST"
    wait_until(lambda: not processes("sleep\x00617"), "nothing of it is left")


def processes(arguments: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "cmdline").read_text().startswith(arguments) and alive(int(entry.name)):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_a_sandbox_that_goes_down_takes_its_commands_along(tmp_path: Path, place: Path) -> None:
    with running_sandbox(tmp_path / "state", nodes=1) as sandbox:
        command_id, running = start(sandbox, f"trap '' TERM; touch {place}/here; while :; do sleep 0.1; done")
        wait_until((place / "here").exists, "it runs")
        supervisor = supervisor_of(sandbox, command_id)
        started = time.monotonic()
        sandbox.trunkline("down")
        assert time.monotonic() - started < 30
        assert not alive(supervisor)
        running.kill()
        running.communicate(timeout=60)
