"""Where everything of a sandbox is, below its one directory."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

DIRECTORY_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of a sandbox; `root` is absolute."""

    root: Path

    @property
    def description_file(self) -> Path:
        """What the command line reads, there while the sandbox is ready."""
        return self.root / "sandbox.json"

    @property
    def lock_file(self) -> Path:
        """Held by the supervisor as long as it lives; it says the supervisor's process id."""
        return self.root / "supervisor.lock"

    @property
    def ports_file(self) -> Path:
        """The ports of the last time."""
        return self.root / "ports.json"

    @property
    def log_directory(self) -> Path:
        """One log file a daemon."""
        return self.root / "log"

    @property
    def control_plane(self) -> Path:
        """The control plane's directory: `config.toml` and `state`."""
        return self.root / "control-plane"

    def relay(self, role: str) -> Path:
        """A relay's directory: `config.toml`, `join-token` and `state`."""
        return self.root / role

    @property
    def identity(self) -> Path:
        """The emulated identity service's directory."""
        return self.root / "identity"

    def node(self, name: str) -> Path:
        """A node's directory: `config.toml`, `policy.toml` and `state`."""
        return self.root / "nodes" / name

    def log_file(self, name: str) -> Path:
        """The log of a daemon."""
        return self.log_directory / f"{name}.log"

    def check_owner(self) -> None:
        """Let a directory pass that is this user's own.

        In a directory like /tmp anybody may have made it: what lies there would say which processes of ours are to be
        ended, and have our keys.

        Raises:
            OSError: it is another user's, or is not there.
        """
        if self.root.stat().st_uid != os.geteuid():
            reason = "the directory belongs to another user; be that user, or name another directory with --state"
            raise PermissionError(errno.EPERM, reason, str(self.root))

    def make(self, nodes: list[str], relays: list[str]) -> None:
        """Make the directories, for their owner alone.

        Raises:
            OSError: one cannot be made.
        """
        self.root.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        self.check_owner()
        self.root.chmod(DIRECTORY_MODE)
        places = [self.log_directory, self.control_plane, self.identity, self.root / "nodes"]
        for place in [*places, *(self.relay(role) for role in relays), *(self.node(name) for name in nodes)]:
            place.mkdir(mode=DIRECTORY_MODE, exist_ok=True)


def node_names(count: int) -> list[str]:
    """The names of a sandbox's nodes: vm-1, vm-2, …"""
    return [f"vm-{number}" for number in range(1, count + 1)]
