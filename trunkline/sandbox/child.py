"""The first thing in each process of a sandbox: it ends when its supervisor does, even when that was killed.

Linux sends this process SIGTERM when the thread that made it dies (prctl(2), PR_SET_PDEATHSIG), so that a supervisor
that got SIGKILL leaves nothing running. Then the daemon, found by its entry point, is run in this same process.

    python -m trunkline.sandbox.child SUPERVISOR_PID relay --config FILE
    python -m trunkline.sandbox.child SUPERVISOR_PID identity-emulator DIRECTORY
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import entry_points

from trunkline.sandbox.processes import end_with_parent

EMULATOR = "identity-emulator"


def main(arguments: list[str]) -> int:
    """Tie this process to its supervisor and run the daemon named."""
    supervisor_pid, name, *rest = arguments
    end_with_parent(int(supervisor_pid))
    if name == EMULATOR:
        from trunkline.sandbox.emulator import main as run_emulator

        return run_emulator(rest)
    found = next(iter(entry_points(group="trunkline.daemons", name=name)), None)
    if found is None:
        sys.stderr.write(f"the {name} daemon is not installed: pip install 'trunkline[sandbox]'\n")
        return os.EX_UNAVAILABLE
    return int(found.load()(rest) or 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
