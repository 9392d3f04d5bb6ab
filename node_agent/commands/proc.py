"""What /proc says of processes: which boot this is, and which of them belong to which run of a command."""

from collections.abc import Collection
from pathlib import Path

# In the environment of every command: the name of its run, by which its processes are known after the agent's death.
RUN_VARIABLE = "TRUNKLINE_COMMAND_RUN"


def boot_id() -> str:
    """Return the kernel's name for this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def processes_of_runs(run_ids: Collection[str]) -> set[int]:
    """Return the living processes that carry one of these names in their environment."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and _run_id(entry) in run_ids:
            found.add(int(entry.name))
    return found


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
