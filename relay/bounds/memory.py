"""How much memory the relay holds, and how much it may: Linux's own accounts, from /proc and the cgroup files."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
CGROUPS = Path("/sys/fs/cgroup")
UNBOUNDED_BYTES = 2**60
"""A cgroup v1 without a limit states one of about 2**63 bytes."""


def resident_bytes(statms: Iterable[Path] = (Path("/proc/self/statm"),)) -> int:
    """Return the resident memory of these processes together, as proc(5) has it; by default that of this one.

    What is mapped of files, the program and its libraries, counts once: they all run the same. One that has ended holds
    nothing.
    """
    own = mapped = 0
    for statm in statms:
        try:
            words = statm.read_bytes().split()
        except OSError:
            continue
        own += int(words[1]) - int(words[2])
        mapped = max(mapped, int(words[2]))
    return (own + mapped) * PAGE_BYTES


def limit_bytes(cgroup: Path = Path("/proc/self/cgroup"), root: Path = CGROUPS) -> int | None:
    """Return the least memory limit of the cgroups that this process is in; None if there is none."""
    limits = [limit for file in _limit_files(cgroup, root) if (limit := _read_limit(file)) is not None]
    return min(limits, default=None)


def _limit_files(cgroup: Path, root: Path) -> Iterator[Path]:
    """Yield the files that may state a limit: of the process's own cgroups, and of those above them."""
    try:
        lines = cgroup.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        base, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        place = base / path.lstrip("/")
        while place.is_relative_to(base):
            yield place / name
            place = place.parent


def _read_limit(file: Path) -> int | None:
    try:
        text = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return int(text) if text.isdecimal() and int(text) < UNBOUNDED_BYTES else None
