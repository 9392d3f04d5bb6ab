"""A real sandbox for end-to-end tests: every daemon a process of its own, driven through the command line."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.forked_commands import run_trunkline

START_SECONDS = 120.0
COMMAND_SECONDS = 60.0
TRUNKLINE = str(Path(sys.executable).with_name("trunkline"))


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox in `state`."""

    state: Path

    @property
    def description(self) -> dict[str, Any]:
        """What sandbox.json says now; it changes when a daemon is restarted."""
        document: dict[str, Any] = json.loads((self.state / "sandbox.json").read_text())
        return document

    def trunkline(
        self, *arguments: str, check: bool = True, timeout: float = COMMAND_SECONDS, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command line against this sandbox."""
        command = self._with_state(arguments)
        finished = run_trunkline(command, stdin=stdin, timeout=timeout)
        if check and finished.returncode:
            raise AssertionError(f"{command} exited with {finished.returncode}: {finished.stderr.decode()}")
        return finished

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the command line and leave it running."""
        command = [TRUNKLINE, *self._with_state(arguments)]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def json(self, *arguments: str) -> Any:
        """Run the command line with `-o json` and return what it printed."""
        return json.loads(self.trunkline(*arguments, "-o", "json").stdout)

    def _with_state(self, arguments: tuple[str, ...]) -> list[str]:
        words = list(arguments)
        place = words.index("--") if "--" in words else len(words)
        return [*words[:place], "--state", str(self.state), *words[place:]]

    def pid(self, role: str) -> int:
        """The process of a daemon: control_plane, relay, or a node's name."""
        description = self.description
        for node in description["nodes"]:
            if node["name"] == role:
                return int(node["pid"])
        found = description["pids"][role]
        return int(found[0] if isinstance(found, list) else found)

    def kill(self, role: str) -> int:
        """SIGKILL a daemon; returns the process that it was."""
        pid = self.pid(role)
        os.kill(pid, signal.SIGKILL)
        return pid

    def logs(self) -> str:
        """All logs of all daemons."""
        return "\n".join(path.read_text(errors="replace") for path in sorted((self.state / "log").glob("*")))


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Ask again and again until the condition is true: for what another process will do in its own time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError, KeyError, ValueError, AssertionError):
            if found := condition():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


def copy_database(live: Path, copy: Path) -> None:
    """Copy a control plane's SQLite database, which may be in use."""
    with contextlib.closing(sqlite3.connect(live)) as read, contextlib.closing(sqlite3.connect(copy)) as written:
        read.backup(written)


@contextlib.contextmanager
def running_sandbox(state: Path, *, nodes: int = 2, relays: int = 1) -> Iterator[Sandbox]:
    """Start a sandbox, and stop it afterwards."""
    sandbox = Sandbox(state)
    counts = ["--nodes", str(nodes), "--relays", str(relays)]
    command = [TRUNKLINE, "up", *counts, "--state", str(state), "--detach"]
    try:
        started = subprocess.run(command, capture_output=True, timeout=START_SECONDS, check=False)
        assert started.returncode == 0, started.stderr.decode() + started.stdout.decode()
        yield sandbox
    finally:
        subprocess.run([TRUNKLINE, "down", "--state", str(state)], capture_output=True, timeout=120, check=False)


def allow_ports(sandbox: Sandbox, node: str, ports: list[int]) -> None:
    """Let the owner of a node allow these ports, and wait until the agent has read the policy again."""
    rules = "".join(f"[ports.{port}]\nshared = true\n\n" for port in ports)
    set_policy(sandbox, node, rules)


def add_command_rules(sandbox: Sandbox, node: str, rules: str) -> None:
    """Let the owner of a node add rules to those of commands."""
    text = (sandbox.state / "nodes" / node / "policy.toml").read_text()
    before, heading, after = text.partition("[commands]\n")
    set_policy(sandbox, node, f"{before}\n[commands]\n{rules}\n{after if heading else ''}")


def set_policy(sandbox: Sandbox, node: str, rules: str) -> None:
    """Write a node's policy, and wait until the agent has read it again."""
    policy = sandbox.state / "nodes" / node / "policy.toml"
    log = sandbox.state / "log" / f"{node}.log"
    loaded = log.read_text(errors="replace").count("policy.loaded")
    policy.write_text(rules)
    os.kill(sandbox.pid(node), signal.SIGHUP)
    wait_until(lambda: log.read_text(errors="replace").count("policy.loaded") > loaded, "the policy was read again")
