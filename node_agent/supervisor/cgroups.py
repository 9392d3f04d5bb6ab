"""The control group of a command: its bounds, what it used, who is in it, and the end of everybody in it.

Theory of operation. Below the agent's own group a group is made for each command, in the v2 hierarchy and in each v1
hierarchy that is there and can be written; what is not there is done without. Where a bound has no file it is not set,
and the caller falls back on rlimits. In v2 a group that has processes cannot hand controllers on to its children; so
they are asked for only where the agent is in a group called `agent`, beside which the commands' groups are made (that
is what `DelegateSubgroup=agent` does). Without it the v2 group has no bounds, but still names and kills everybody.
"""

import contextlib
import errno
import os
import time
from typing import NamedTuple

from node_agent.supervisor.plan import Limits

AGENT_GROUP = "agent"
NAME_PREFIX = "trunkline-"
V2 = "unified"
V1_CONTROLLERS = ("memory", "pids", "cpu", "cpuacct", "freezer")
CPU_PERIOD_MICROSECONDS = 100_000
# A command's share of a busy processor, as against 100 (v2) and 1024 (v1) of the agent.
CPU_WEIGHT = 50
CPU_SHARES = 512
REMOVE_SECONDS = 0.5
_PAUSE_SECONDS = 0.01


class Usage(NamedTuple):
    """What a group used, each None where nobody counted."""

    cpu_seconds: float | None
    memory_peak_bytes: int | None
    oom_kills: int | None


class Group:
    """The directories of one command's group, by hierarchy: `unified`, or the name of a v1 controller."""

    def __init__(self, directories: dict[str, str]) -> None:
        self.directories = directories

    def bound(self, limits: Limits) -> set[str]:
        """Set the bounds for which there are files; return the names of those that were set."""
        done = set()
        for name, settings in _settings(limits).items():
            written = [self._write(hierarchy, file, value) for hierarchy, file, value in settings]
            if any(written):
                done.add(name)
        self._write("memory", "memory.memsw.limit_in_bytes", str(limits.memory_bytes or -1))
        self._write(V2, "memory.swap.max", "0" if limits.memory_bytes is not None else "max")
        self._write("cpu", "cpu.shares", str(CPU_SHARES))
        self._write(V2, "cpu.weight", str(CPU_WEIGHT))
        return done

    def bound_or_refuse(self, limits: Limits) -> set[str]:
        """Set the bounds as `bound` does, but none that nothing here could keep.

        Raises:
            OSError: CPU is to be bounded, and there is no group that does.
        """
        done = self.bound(limits)
        if limits.cpu_percent is not None and "cpu_percent" not in done:
            # Nothing else can bound it, and a bound that is not kept is not to be taken for one that is.
            raise OSError(errno.EOPNOTSUPP, "this node has no control group for bounding the CPU of commands")
        return done

    def enter(self) -> None:
        """Move this process into the group.

        Raises:
            OSError: the kernel refuses.
        """
        for hierarchy in self.directories:
            self._write_strictly(hierarchy, "cgroup.procs", "0")

    def members(self) -> set[int]:
        """Return the processes in the group."""
        found: set[int] = set()
        for hierarchy in self.directories:
            found.update(int(line) for line in self._read(hierarchy, "cgroup.procs").split())
        return found

    def kill(self) -> None:
        """Kill everybody, where the kernel does that at one stroke, and let nobody else be born."""
        self._write("pids", "pids.max", "0")
        self._write(V2, "cgroup.kill", "1")

    def usage(self) -> Usage:
        """Return what was used so far."""
        nanoseconds, peak = self._read("cpuacct", "cpuacct.usage"), self._read("memory", "memory.max_usage_in_bytes")
        microseconds = _field(self._read(V2, "cpu.stat"), "usage_usec")
        cpu_seconds = int(nanoseconds) / 1e9 if nanoseconds else None
        if cpu_seconds is None and microseconds is not None:
            cpu_seconds = microseconds / 1e6
        peak = peak or self._read(V2, "memory.peak")
        kills = _field(self._read("memory", "memory.oom_control"), "oom_kill")
        if kills is None:
            kills = _field(self._read(V2, "memory.events"), "oom_kill")
        return Usage(cpu_seconds, int(peak) if peak else None, kills)

    def remove(self) -> None:
        """Remove the group; the kernel lets go of its last processes a moment after their end."""
        deadline = time.monotonic() + REMOVE_SECONDS
        for directory in self.directories.values():
            while not _removed(directory) and time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)

    def _write(self, hierarchy: str, name: str, value: str) -> bool:
        if hierarchy not in self.directories:
            return False
        try:
            self._write_strictly(hierarchy, name, value)
        except OSError:
            return False
        return True

    def _write_strictly(self, hierarchy: str, name: str, value: str) -> None:
        descriptor = os.open(f"{self.directories[hierarchy]}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode("ascii"))
        finally:
            os.close(descriptor)

    def _read(self, hierarchy: str, name: str) -> str:
        if hierarchy not in self.directories:
            return ""
        try:
            with open(f"{self.directories[hierarchy]}/{name}", encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""


def make_group(name: str) -> Group:
    """Make the group of a command below this process's own, in every hierarchy that lets us."""
    made: dict[str, str] = {}
    for hierarchy, own in own_groups().items():
        base = own
        if hierarchy == V2 and os.path.basename(own) == AGENT_GROUP:
            base = os.path.dirname(own)
            _hand_on(base)
        directory = f"{base.rstrip('/')}/{NAME_PREFIX}{name}"
        with contextlib.suppress(OSError):
            os.mkdir(directory, 0o755)
            made[hierarchy] = directory
    return Group(made)


def own_groups(proc: str = "/proc/self") -> dict[str, str]:
    """Return the directory of this process's own group in each hierarchy of use."""
    memberships: dict[str, str] = {}
    for line in _lines(f"{proc}/cgroup"):
        number, names, path = line.split(":", 2)
        for name in names.split(",") if number != "0" else [V2]:
            memberships[name] = path
    found: dict[str, str] = {}
    for line in _lines(f"{proc}/mountinfo"):
        before, _, after = line.partition(" - ")
        root, mount_point = before.split(" ")[3:5]
        kind, _, options = after.split(" ", 2)
        shown = [V2] if kind == "cgroup2" else options.split(",") if kind == "cgroup" else []
        for name in shown:
            if name in (V2, *V1_CONTROLLERS) and name in memberships and name not in found:
                found[name] = mount_point + _below(memberships[name], root)
    return found


def _below(path: str, root: str) -> str:
    """Return a group's path within a mount that shows `root` and what is below it."""
    if root != "/" and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return "" if path == "/" else path


def _settings(limits: Limits) -> dict[str, list[tuple[str, str, str]]]:
    settings: dict[str, list[tuple[str, str, str]]] = {}
    if limits.memory_bytes is not None:
        value = str(limits.memory_bytes)
        settings["memory_bytes"] = [("memory", "memory.limit_in_bytes", value), (V2, "memory.max", value)]
    if limits.processes is not None:
        value = str(limits.processes)
        settings["processes"] = [("pids", "pids.max", value), (V2, "pids.max", value)]
    if limits.cpu_percent is not None:
        quota = limits.cpu_percent * CPU_PERIOD_MICROSECONDS // 100
        settings["cpu_percent"] = [
            ("cpu", "cpu.cfs_quota_us", str(quota)),
            (V2, "cpu.max", f"{quota} {CPU_PERIOD_MICROSECONDS}"),
        ]
    return settings


def _hand_on(directory: str) -> None:
    """Let the children of a v2 group have bounds; each controller by itself, since one that is missing spoils all."""
    for controller in ("memory", "pids", "cpu"):
        with contextlib.suppress(OSError), open(f"{directory}/cgroup.subtree_control", "w", encoding="ascii") as file:
            file.write(f"+{controller}")


def _removed(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _field(text: str, name: str) -> int | None:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdecimal():
            return int(value)
    return None


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read().splitlines()
    except OSError:
        return []
