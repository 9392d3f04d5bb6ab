"""Processes as the kernel knows them: who is whose child, who ends with whom, and who is still there."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

CHILD_MODULE = "trunkline.sandbox.child"
# In the arguments of each command's supervisor, after which the command's directory follows.
COMMAND_SUPERVISOR = "node_agent.supervisor"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def end_with_parent(parent_pid: int) -> None:
    """Ask for SIGTERM at the parent's death, and end at once if it has died already.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:
        raise SystemExit(os.EX_TEMPFAIL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, so that they can be found, reaped and stopped.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> set[int]:
    """The processes whose parent this process is, made or adopted."""
    found: set[int] = set()
    for tasks in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in (tasks / "children").read_text().split())
    return found


def reap_adopted(own: set[int]) -> None:
    """Collect the exit status of adopted processes that have ended; those in `own` are their makers' to collect."""
    for pid in children() - own:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def processes_of(directory: Path) -> set[int]:
    """The sandbox processes that work in a directory, by their arguments, so that no stranger is taken for one."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _works_in(entry, f"{directory}/"):
            found.add(int(entry.name))
    return found


def supervisors_for(directory: Path) -> set[int]:
    """The processes that were started in the background to be the supervisor of a directory, ready or not yet."""
    wanted = supervisor_arguments(str(directory))
    return {
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _arguments(entry)[1 : len(wanted) + 1] == wanted
    }


def supervisor_arguments(directory: str) -> list[str]:
    """How a supervisor's arguments begin, behind the interpreter."""
    return ["-m", "trunkline", "up", "--state", directory]


def _arguments(entry: Path) -> list[str]:
    try:
        return os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
    except OSError:
        return []


def _works_in(entry: Path, prefix: str) -> bool:
    arguments = _arguments(entry)
    ours = CHILD_MODULE in arguments or any(COMMAND_SUPERVISOR in argument for argument in arguments)
    return ours and any(f"{argument}/".startswith(prefix) for argument in arguments)


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal, to nobody if the process has gone or is no longer ours."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
