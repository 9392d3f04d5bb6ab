"""The first thing in each process of a sandbox: it ends when its supervisor does, even when that was killed.

Linux sends this process SIGTERM when the thread that made it dies (prctl(2), PR_SET_PDEATHSIG), so that a supervisor
that got SIGKILL leaves nothing running. Then the daemon, found by its entry point, is loaded, and run in this same
process once a byte comes on standard input: so all daemons of a sandbox load at the same time, while their settings,
which follow from each other, are written one after the other. A control plane is initialised first.

    python -m trunkline.sandbox.child SUPERVISOR_PID relay --config FILE
    python -m trunkline.sandbox.child SUPERVISOR_PID identity-emulator DIRECTORY
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points

from trunkline.runtime.loading import leave_the_rest, loading
from trunkline.sandbox.processes import end_with_parent

CONTROL_PLANE = "control-plane"
EMULATOR = "identity-emulator"


def main(arguments: list[str]) -> int:
    """Tie this process to its supervisor, load the daemon named, wait for the word, and run it."""
    supervisor_pid, name, *rest = arguments
    end_with_parent(int(supervisor_pid))
    with loading():
        program = _load(name)
    if program is None:
        sys.stderr.write(f"the {name} daemon is not installed: pip install 'trunkline[sandbox]'\n")
        return os.EX_UNAVAILABLE
    if not sys.stdin.buffer.read(1):
        return os.EX_TEMPFAIL  # whoever was to give the word has gone
    if name == CONTROL_PLANE:
        status = program(["init", *rest])
        if status:
            return status
    return program(rest)


def _load(name: str) -> Callable[[list[str]], int] | None:
    if name == EMULATOR:
        from trunkline.sandbox.emulator import main as run_emulator

        return run_emulator
    found = next(iter(entry_points(group="trunkline.daemons", name=name)), None)
    if found is None:
        return None
    program: Callable[[list[str]], int] = found.load()
    return program


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    finally:
        leave_the_rest()
