"""Commands that take all that they can get: contained, ended whole, and the agent answers meanwhile."""

import contextlib
import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node_agent.supervisor.cgroups import NAME_PREFIX, Group, own_groups
from tests.support.sandboxes import TRUNKLINE, Sandbox, add_command_rules, running_sandbox, wait_until
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.sync import connect

NODE = "vm-1"
OUTPUT_BYTES = 1024 * 1024
PROCESSES = 300
MEMORY_BYTES = 200 * 1024 * 1024
RULES = f"""
max_output_bytes = {OUTPUT_BYTES}
max_grace_seconds = 0.5
limits = {{ processes = {PROCESSES}, memory_bytes = {MEMORY_BYTES} }}
"""
# It goes on when nothing can be forked any more, unlike one of a shell's.
BOMB = "exec perl -e 'fork while 1'"
# A second of an idle machine is promised, which `make soak-cancel` measures. The machine of the tests is shared, so
# that there is more time, and one of several attempts counts.
HEALTH_SECONDS = 5.0
CANCEL_SECONDS = 15.0
ATTEMPTS = 5


class Node:
    """The sandbox's node, reached through control plane and relay."""

    def __init__(self, sandbox: Sandbox, plane: Any) -> None:
        self.sandbox = sandbox
        self.commands = sandbox.state / "nodes" / NODE / "state" / "commands"
        self._workspace = plane.workspace("main")
        self._agent = plane.node("main", NODE)

    def submit(self, script: str, **fields: Any) -> str:
        command_id = f"c-{uuid.uuid4().hex[:12]}"
        request = CommandRequest(command_id=command_id, argv=["sh", "-c", script], **fields)
        self._workspace.commands.submit(Target(node=NODE), request)
        return command_id

    def get(self, command_id: str) -> dict[str, Any]:
        document: dict[str, Any] = self.sandbox.json("command", "get", command_id)
        return document

    def record(self, command_id: str) -> dict[str, Any]:
        """What the agent has on its disk."""
        document: dict[str, Any] = json.loads((self.commands / command_id / "record.json").read_bytes())
        return document

    def ended(self, command_id: str) -> dict[str, Any]:
        final = {"SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST"}
        wait_until(lambda: self.get(command_id)["state"] in final, "it has ended", 60)
        return self.get(command_id)

    def run(self, script: str, **fields: Any) -> dict[str, Any]:
        return self.ended(self.submit(script, **fields))

    def output(self, command_id: str) -> bytes:
        return self.sandbox.trunkline("command", "output", command_id).stdout

    def is_healthy(self) -> None:
        """Ask the agent itself, through the relay."""
        assert any(self._answers_in_time() for _ in range(ATTEMPTS))

    def _answers_in_time(self) -> bool:
        started = time.monotonic()
        assert self._agent.health().status in ("ok", "degraded")
        return time.monotonic() - started < HEALTH_SECONDS


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_sandbox(tmp_path_factory.mktemp("bounded") / "state", nodes=1) as sandbox:
        add_command_rules(sandbox, NODE, RULES)
        description = sandbox.description
        token = Path(description["admin_token_file"]).read_text().strip()
        with connect(description["control_plane_url"], token, ca_file=description["ca_file"]) as plane:
            yield Node(sandbox, plane)


def processes_of(node: Node, command_id: str) -> list[int]:
    """Who lives in the command's control group. To read more of each process of a bomb would take too long."""
    groups = json.loads((node.commands / command_id / "claim.json").read_bytes())["groups"]
    if "pids" not in groups and "unified" not in groups:
        pytest.skip("there are no control groups here")
    procs = Path(groups.get("pids", groups.get("unified"))) / "cgroup.procs"
    return [int(line) for line in procs.read_text().split()] if procs.exists() else []


def test_a_fork_bomb(node: Node) -> None:
    command_id = node.submit(BOMB, timeout_seconds=6.0)
    wait_until(lambda: len(processes_of(node, command_id)) > PROCESSES / 2, "it goes off")
    for _ in range(3):
        node.is_healthy()
        assert len(processes_of(node, command_id)) <= PROCESSES
    assert node.ended(command_id)["state"] == "TIMED_OUT"
    assert processes_of(node, command_id) == []


def test_an_allocation_of_ten_gigabytes(node: Node) -> None:
    command_id = node.submit("head -c 10G /dev/zero | tail", timeout_seconds=60.0)
    node.is_healthy()
    document = node.ended(command_id)
    assert (document["state"], document["exit_code"]) == ("FAILED", 137)
    assert "want of memory" in document["reason"]


def test_output_without_end_and_a_sigterm_that_is_ignored(node: Node) -> None:
    command_id = node.submit("trap '' TERM; while :; do yes; done", timeout_seconds=2.0)
    node.is_healthy()
    document = node.ended(command_id)
    assert (document["state"], document["signal"]) == ("TIMED_OUT", signal.SIGKILL)
    assert document["stdout_bytes"] == OUTPUT_BYTES
    assert document["stdout_dropped_bytes"] == node.record(command_id)["stdout_dropped_bytes"] > 0
    assert processes_of(node, command_id) == []


def test_a_cancel_reaches_a_fork_bomb(node: Node) -> None:
    command_id = node.submit(f"trap '' TERM; {BOMB}", timeout_seconds=150.0)
    wait_until(lambda: len(processes_of(node, command_id)) > PROCESSES / 2, "it goes off")
    node.sandbox.trunkline("command", "cancel", command_id)
    assert node.ended(command_id)["state"] == "CANCELLED"
    assert processes_of(node, command_id) == []


def test_a_cancel_is_soon_done(node: Node) -> None:
    assert any(seconds_of_a_cancel(node) < CANCEL_SECONDS for _ in range(ATTEMPTS))


def seconds_of_a_cancel(node: Node) -> float:
    """From the start of the command line to the death of the last process of a tree with a daemon."""
    command_id = node.submit("sleep 1000 & (setsid sleep 1000 &) & wait")
    wait_until(lambda: len(processes_of(node, command_id)) == 3, "it runs")
    began = time.monotonic()
    with node.sandbox.start("command", "cancel", command_id) as cancelling:
        wait_until(lambda: not processes_of(node, command_id), "all of it is dead")
        taken = time.monotonic() - began
        cancelling.communicate(timeout=30)
    return taken


def test_a_fork_bomb_in_a_shell(node: Node) -> None:
    script = f"echo $$; read go; {BOMB}"
    command = [TRUNKLINE, "shell", "--state", str(node.sandbox.state), NODE, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        entered = own_groups(f"/proc/{int(shell.stdout.readline())}")
        groups = {name: path for name, path in entered.items() if Path(path).name.startswith(NAME_PREFIX)}
        if not groups:
            pytest.skip("there are no control groups here")
        members = Group(groups).members
        shell.stdin.write(b"go\n")
        shell.stdin.flush()
        wait_until(lambda: len(members()) > PROCESSES / 2, "it goes off")
        node.is_healthy()
        assert len(members()) <= PROCESSES
        shell.terminate()
        shell.communicate(timeout=60)
    wait_until(lambda: not members(), "nothing of it is left")


def test_a_daemon_and_closed_streams(node: Node) -> None:
    command_id = node.submit("(setsid sh -c 'exec >&- 2>&-; sleep 60' &); exec >&- 2>&-; exit 3")
    assert (node.ended(command_id)["state"], node.get(command_id)["exit_code"]) == ("FAILED", 3)
    assert processes_of(node, command_id) == []


def test_ten_thousand_lines_at_once(node: Node) -> None:
    command_id = node.submit("seq 1 10000")
    assert node.ended(command_id)["state"] == "SUCCEEDED"
    assert node.output(command_id) == b"".join(b"%d\n" % number for number in range(1, 10_001))


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[None]:
    options = ["-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", str(directory)]
    mounted = subprocess.run(["mount", *options], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)


def test_a_disk_that_fills_under_the_spool(node: Node) -> None:
    with small_disk(node.commands):
        command_id = node.submit("exec yes")
        document = node.ended(command_id)
        assert (document["state"], document["signal"]) == ("FAILED", signal.SIGPIPE)
        assert "No space left on device" in document["reason"]
        node.is_healthy()
    assert node.run("true")["state"] == "SUCCEEDED"
