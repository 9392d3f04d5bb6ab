"""Cancels and health of a node that has much to do: `python -m bench.soak_cancel`, or `make soak-cancel`; two minutes.

A sandbox with one node. First commands, each a tree of processes with a daemon, are cancelled one after the other by
`trunkline command cancel`, and the time is taken from the start of that process to the death of the last of the tree:
99 % within a second, on a machine with nothing else to do. Then the agent is asked for its health, through the relay,
while a fork bomb goes off: from the moment at which it is submitted, and within a second each. Exits 1 otherwise.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.build import Build
from bench.real_agent import running_sandbox
from node_agent.supervisor.tree import descendants
from trunkline.client.commands import CommandRequest, Target
from trunkline.client.sync import connect

BOUND_SECONDS = 1.0
WAIT_SECONDS = 30.0
STEP_SECONDS = 0.001
# The program, a child of it, and a daemon that has left both.
TREE = "sleep 1000 & (setsid sleep 1000 &) & wait"
TREE_PROCESSES = 3
BOMB = "exec perl -e 'fork while 1'"
BOMB_PROCESSES = 500
TRUNKLINE = [sys.executable, "-m", "trunkline"]


@dataclass(frozen=True)
class Node:
    """The sandbox's node, as the SDK and the command line see it."""

    state: Path
    name: str
    commands: Any
    agent: Any

    def submit(self, script: str, **fields: Any) -> str:
        """Submit a script; returns the command's id."""
        command_id = f"c-{uuid.uuid4().hex[:12]}"
        request = CommandRequest(command_id=command_id, argv=["sh", "-c", script], **fields)
        self.commands.submit(Target(node=self.name), request)
        return command_id

    def tree(self, command_id: str) -> set[int]:
        """The processes of a command, but for those that have ended."""
        claim = self.state / "nodes" / self.name / "state" / "commands" / command_id / "claim.json"
        try:
            return descendants(json.loads(claim.read_bytes())["pid"])
        except (OSError, ValueError):
            return set()


def cancel(node: Node) -> tuple[float, float]:
    """Cancel one command; returns after how long its tree was dead, and after how long the command line had ended."""
    command_id = node.submit(TREE)
    _wait(lambda: len(node.tree(command_id)) == TREE_PROCESSES, f"{command_id} has all its processes")
    command = [*TRUNKLINE, "command", "cancel", command_id, "--state", str(node.state)]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as cancelling:
        _wait(lambda: not node.tree(command_id), f"the tree of {command_id} is dead")
        dead = time.monotonic() - began
        if cancelling.wait(WAIT_SECONDS):
            raise RuntimeError("the cancel failed")
    return dead, time.monotonic() - began


def health_under_a_bomb(node: Node, seconds: float) -> tuple[list[float], float]:
    """Ask for the agent's health meanwhile; returns how long each answer took, and then the end of the bomb."""
    command_id, taken = node.submit(BOMB, limits={"processes": BOMB_PROCESSES}), []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        node.agent.health()
        taken.append(time.monotonic() - began)
    if len(node.tree(command_id)) < BOMB_PROCESSES // 2:
        raise RuntimeError("the bomb did not go off")
    began = time.monotonic()
    node.commands.cancel(command_id)
    _wait(lambda: not node.tree(command_id), "the bomb is over")
    return taken, time.monotonic() - began


def soak(node: Node, cancels: int, seconds: float) -> bool:
    """Measure, print, and return whether the bounds were kept."""
    node.commands.wait(node.submit("true"))
    times = [cancel(node) for _ in range(cancels)]
    dead = _print("cancel: from the start of the command line to a dead tree", [first for first, _ in times])
    _print("cancel: to the end of the command line", [second for _, second in times])
    taken, ended = health_under_a_bomb(node, seconds)
    slow = _print("health under a fork bomb", taken)
    print(f"the bomb was over {ended:.3f} s after its cancel")
    return dead <= BOUND_SECONDS and slow <= BOUND_SECONDS


def _print(what: str, seconds: Sequence[float]) -> float:
    """Print the percentiles; returns the 99th."""
    ordered = sorted(seconds)
    median, last = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    print(f"{what}: p50 {median:.3f} s, p99 {last:.3f} s, longest {ordered[-1]:.3f} s, of {len(ordered)}", flush=True)
    return last


def _wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {WAIT_SECONDS:g} s: {what}")
        time.sleep(STEP_SECONDS)


def main() -> int:
    """Run the soak from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long the fork bomb goes on")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_sandbox(Path(directory) / "state", Build.best()):
        state = Path(directory) / "state"
        described = json.loads((state / "sandbox.json").read_bytes())
        token = Path(described["admin_token_file"]).read_text().strip()
        with connect(described["control_plane_url"], token, ca_file=described["ca_file"]) as plane:
            name = described["nodes"][0]["name"]
            node = Node(state, name, plane.workspace("main").commands, plane.node("main", name))
            return 0 if soak(node, arguments.cancels, arguments.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
