"""What /proc says of processes, and how processes that a former agent left behind are found and ended."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

# In the environment of every command: the name of its run, by which its processes are known after the agent's death.
RUN_VARIABLE = "TRUNKLINE_COMMAND_RUN"
KILL_PAUSE_SECONDS = 0.02


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def start_ticks(pid: int) -> int | None:
    """Return when a process started, in clock ticks since boot, or None when there is no such process.

    With the number it names a process for good, since numbers are given again and this is not.
    """
    fields = _stat_fields(pid)
    return None if fields is None else int(fields[19])


@dataclass(frozen=True, slots=True)
class FormerRun:
    """What is recorded of a run whose agent has died."""

    run_id: str
    pid: int | None
    pid_start_ticks: int | None


def kill_left_behind(runs: Iterable[FormerRun], *, timeout_seconds: float = 5.0) -> set[str]:
    """Kill every process of these runs with its process group (this blocks); return the runs that still had some.

    A process belongs to a run if it carries the run's name in its environment, or is the recorded one: same number
    and same start. A process group is signalled only if a process of the run is in it.
    """
    wanted = {run.run_id: run for run in runs}
    found: set[str] = set()
    deadline = time.monotonic() + timeout_seconds
    while wanted and time.monotonic() < deadline:
        alive = list(_processes_of(wanted))
        if not alive:
            break
        for pid, run_id in alive:
            found.add(run_id)
            _kill(pid)
        time.sleep(KILL_PAUSE_SECONDS)
    return found


def _processes_of(wanted: dict[str, FormerRun]) -> Iterator[tuple[int, str]]:
    recorded = {run.pid: run for run in wanted.values() if run.pid is not None}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in (1, os.getpid()):
            continue
        pid = int(entry.name)
        run_id = _run_id(entry)
        if run_id not in wanted:
            run = recorded.get(pid)
            run_id = run.run_id if run is not None and _same_process(run) else None
        if run_id is not None and not _is_zombie(pid):
            yield pid, run_id


def _run_id(entry: Path) -> str | None:
    try:
        environment = (entry / "environ").read_bytes()
    except OSError:
        return None
    prefix = f"{RUN_VARIABLE}=".encode()
    for variable in environment.split(b"\0"):
        if variable.startswith(prefix):
            return variable[len(prefix) :].decode("ascii", "replace")
    return None


def _same_process(run: FormerRun) -> bool:
    return run.pid is not None and run.pid_start_ticks is not None and start_ticks(run.pid) == run.pid_start_ticks


def _is_zombie(pid: int) -> bool:
    fields = _stat_fields(pid)
    return fields is None or fields[0] in ("Z", "X")


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(pid)
        if group == os.getpgrp():
            os.kill(pid, signal.SIGKILL)
        else:
            os.killpg(group, signal.SIGKILL)


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the third on (the second, the name, may hold spaces)."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return content.rpartition(")")[2].split()
