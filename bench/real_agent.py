"""The row with the real node agent: a sandbox with one node, and small calls to its health through the gateway."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.build import Build
from bench.calls import MICROSECONDS, SENDERS
from bench.machine import LOAD_CORE, RELAY_CORE, pin
from bench.nginx import Nginx
from bench.rows import Row
from bench.wrk import Load, run_wrk

REAL_AGENT = "small call to the real agent, 64 senders"
SANDBOX_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What the row needs of a running sandbox."""

    health_url: str
    token: str
    relay_pid: int


@contextmanager
def running_sandbox(directory: Path, build: Build) -> Iterator[Sandbox]:
    """A sandbox whose relay has a core of its own; everything else shares the load's."""
    directory.mkdir()
    environment = build.environment()
    _trunkline(directory, environment, "up", "--nodes", "1", "--detach")
    try:
        description = json.loads((directory / "sandbox.json").read_bytes())
        pids, node = description["pids"], description["nodes"][0]
        token_file = directory / "bench-token"
        _trunkline(
            directory, environment, "token", "call", node["name"], "--scope", "health:read", "--file", str(token_file)
        )
        for role, pid in pids.items():
            for one in pid if isinstance(pid, list) else [pid]:
                pin(one, RELAY_CORE if role == "relay" else LOAD_CORE)
        gateway = f"{description['relay_url']}/v1/workspaces/{description['workspace']}/nodes/{node['name']}"
        yield Sandbox(f"{gateway}/v1/health", token_file.read_text().strip(), pids["relay"])
    finally:
        _trunkline(directory, environment, "down")


def real_agent(sandbox: Sandbox, nginx: Nginx, seconds: float, repetitions: int) -> Row:
    """Small calls to the real agent; nginx as in the other rows."""
    row = Row(REAL_AGENT, MICROSECONDS)
    relay = Load(sandbox.health_url, {"Authorization": f"Bearer {sandbox.token}"}, connections=SENDERS)
    yardstick = Load(nginx.url + "/small", {}, connections=SENDERS)
    run_wrk(relay, 1, sandbox.relay_pid)
    for _ in range(repetitions):
        row.relay.append(run_wrk(relay, seconds, sandbox.relay_pid).cpu_microseconds_per_request)
        row.nginx.append(run_wrk(yardstick, seconds, nginx.pid).cpu_microseconds_per_request)
    return row


def _trunkline(directory: Path, environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "-m", "trunkline", *arguments, "--state", str(directory)]
    answer = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=SANDBOX_SECONDS, cwd=directory, env=environment
    )
    if answer.returncode:
        raise RuntimeError(f"trunkline {' '.join(arguments)}: {answer.stdout}{answer.stderr}")
