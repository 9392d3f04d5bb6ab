"""What a run is measured on, and the CPU time that a process has used."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import ssl
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RELAY_CORE = 0
LOAD_CORE = 1
IDLE_PRIORITY = ("chrt", "--idle", "0")
"""In front of a command that is to run when nothing else wants its core."""
FIRST_PRIORITY = ("chrt", "--fifo", "1")
"""In front of a command that has its core whenever it wants it, whatever else waits; see `first_priority`."""


def cpu_seconds(*pids: int) -> float:
    """CPU time of all threads of these processes by the scheduler's own account, in seconds."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def resident_kib(pid: int) -> int:
    """Resident memory of a process, in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def take_all_files() -> int:
    """Let this process and those that it starts have as many files open as the system allows; how many that is."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def pinned(core: int, command: Iterable[str]) -> list[str]:
    """The command, bound to one core; with a single core there is nothing to choose."""
    if (os.cpu_count() or 1) < 2:
        return list(command)
    return ["taskset", "--cpu-list", str(core), *command]


def first_priority() -> tuple[str, ...]:
    """Return `FIRST_PRIORITY` where this user may use it (root, or who has CAP_SYS_NICE: sched(7)), else nothing."""
    allowed = subprocess.run([*FIRST_PRIORITY, "true"], capture_output=True, check=False).returncode == 0
    return FIRST_PRIORITY if allowed else ()


def go_first() -> None:
    """Have this process, and none that it starts from here on, go first as by `FIRST_PRIORITY`, where it may."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def pin(pid: int, core: int) -> None:
    """Bind all threads of a running process to one core."""
    if (os.cpu_count() or 1) >= 2:
        subprocess.run(
            ["taskset", "--all-tasks", "--cpu-list", "-p", str(core), str(pid)], check=True, capture_output=True
        )


def describe() -> dict[str, str]:
    """The machine and the versions that matter."""
    return {
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "openssl": ssl.OPENSSL_VERSION,
        "uvloop": _version("uvloop"),
        "aiofastnet": _version("aiofastnet"),
        "nginx": _nginx_version(),
        "firewall tables": _firewall_tables(),
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _nginx_version() -> str:
    answer = subprocess.run(["/usr/sbin/nginx", "-v"], check=True, capture_output=True, text=True)
    return answer.stderr.strip().rpartition("/")[2]


def _firewall_tables() -> str:
    """How many tables nftables has: every packet goes through each, and what was killed may have left hundreds."""
    try:
        answer = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return str(len(answer.stdout.splitlines()))
