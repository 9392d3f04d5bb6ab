"""What is left of a command whose supervisor has died: its processes, its control group, its secrets in files."""

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from node_agent.commands.proc import processes_of_runs
from node_agent.supervisor.cgroups import NAME_PREFIX, Group
from node_agent.supervisor.tree import descendants, kill_all, start_ticks, state_and_parent

KILL_SECONDS = 5.0


def clear_left_behind(
    run_id: str, claim: dict[str, Any] | None, started: Iterable[tuple[int | None, int | None]]
) -> bool:
    """Kill every process of a run, and remove its group and its secrets (this blocks); return whether any lived.

    A process belongs to the run if it is in its group, carries the run's name in its environment, is the one that was
    recorded (same number and same start), or is below one of these.

    Args:
        run_id: the run's name.
        claim: its supervisor's claim, if there is one.
        started: the program's process as it is recorded: number, and start in clock ticks.
    """
    claim = claim or {}
    group = _group(run_id, claim.get("groups"))
    recorded = [(pid, ticks) for pid, ticks in started if pid is not None and ticks is not None]

    def everybody() -> Collection[int]:
        found = group.members() | processes_of_runs({run_id})
        found |= {pid for pid, ticks in recorded if start_ticks(pid) == ticks}
        found |= descendants(*found)
        return {pid for pid in found if pid not in (1, os.getpid()) and _lives(pid)}

    lived = bool(group.members())
    group.kill()  # before anybody is looked for: a crowd that is busy dying is slow to look through
    lived = bool(everybody()) or lived
    kill_all(everybody, timeout_seconds=KILL_SECONDS)
    group.remove()
    directory = claim.get("secrets_directory")
    if isinstance(directory, str):
        shutil.rmtree(directory, ignore_errors=True)
    return lived


def _lives(pid: int) -> bool:
    found = state_and_parent(pid)
    return found is not None and found[0] not in "ZX"


def _group(run_id: str, directories: Any) -> Group:
    """Return the group of the claim; what is not named as the run's group is, is none of ours to kill."""
    if not isinstance(directories, dict):
        return Group({})
    return Group({key: path for key, path in directories.items() if Path(path).name == f"{NAME_PREFIX}{run_id}"})
