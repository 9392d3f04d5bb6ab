"""A sandbox in the background: its supervisor in a session of its own, waited for until the sandbox is ready."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from trunkline.sandbox.daemon import SandboxFailed
from trunkline.sandbox.description import read_description
from trunkline.sandbox.plan import SandboxPlan
from trunkline.sandbox.processes import supervisor_arguments

START_SECONDS = 150.0
_POLL_SECONDS = 0.1


def start_detached(plan: SandboxPlan) -> None:
    """Start the supervisor in the background and wait until the sandbox is ready.

    Raises:
        SandboxFailed: it is not; the message is what the supervisor said.
        OSError: its log cannot be written.
    """
    log_file = plan.layout.log_file("supervisor")
    with log_file.open("wb") as log:
        supervisor = subprocess.Popen(
            _arguments(plan), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_until_ready(plan, supervisor, log_file)
    except BaseException:
        supervisor.terminate()
        supervisor.wait()
        raise


def _wait_until_ready(plan: SandboxPlan, supervisor: subprocess.Popen[bytes], log_file: Path) -> None:
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at:
        description = read_description(plan.layout.description_file)
        if description is not None and description.get("pids", {}).get("supervisor") == supervisor.pid:
            return
        if supervisor.poll() is not None:
            raise SandboxFailed(_what_it_said(log_file.read_text(encoding="utf-8", errors="replace")))
        time.sleep(_POLL_SECONDS)
    raise SandboxFailed(f"the sandbox was not ready within {START_SECONDS:g} s; see {log_file}")


def _arguments(plan: SandboxPlan) -> list[str]:
    ports = [word for port in plan.ports for word in ("--port", str(port))]
    return [
        sys.executable, *supervisor_arguments(str(plan.layout.root)),
        "--nodes", str(plan.node_count),
        "--relays", str(plan.relay_count),
        "--platform", plan.platform,
        *ports,
    ]  # fmt: skip


def _what_it_said(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("starting ")]
    return "\n".join(lines).removeprefix("trunkline: ") or "the supervisor ended without a word"
