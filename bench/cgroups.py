"""A control group of a run's own (cgroup v1, as root), in which a process gets little of something."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
CPU_PERIOD_MICROSECONDS = 100_000


@contextmanager
def memory_of(limit_bytes: int) -> Iterator[Path]:
    """A group whose processes may hold so much memory together."""
    with _group("memory") as group:
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        yield group


@contextmanager
def cpu_of(share: float) -> Iterator[Path]:
    """A group whose processes may use such a share of one processor together."""
    with _group("cpu") as group:
        (group / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_MICROSECONDS))
        (group / "cpu.cfs_quota_us").write_text(str(int(CPU_PERIOD_MICROSECONDS * share)))
        yield group


def within(group: Path) -> list[str]:
    """What to put before a command so that it runs in the group."""
    return ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"]


def out_of(group: Path, pid: int) -> None:
    """Take a process out of the group again, to where everybody is."""
    (group.parent / "cgroup.procs").write_text(str(pid))


@contextmanager
def _group(controller: str) -> Iterator[Path]:
    """Make a group, and remove it once its processes have ended.

    Raises:
        OSError: this machine has no such controller, or this user may not use it.
    """
    group = ROOT / controller / f"trunkline-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()
