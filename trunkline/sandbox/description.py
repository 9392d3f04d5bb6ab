"""`sandbox.json`: what a running sandbox is, for the command line, for tests and for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trunkline.runtime.files import write_atomic


@dataclass(frozen=True, slots=True)
class SandboxNode:
    """One node of the sandbox."""

    name: str
    id: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class SandboxDescription:
    """A running sandbox.

    Attributes:
        control_plane_url: its API.
        relay_url: the doors for senders, at the first relay.
        ca_file: the roots to trust for both.
        workspace: the one that the nodes are in.
        admin_token_file: the operator's token.
        pids: process ids by role; `node_agent` is a list in the order of `nodes`, and relays after the first are
            `relay-2` and on.
        admin_urls: the admin endpoints by role, in the same way.
        nodes: the nodes.
        relay_urls: those of all relays, the first one first.
    """

    control_plane_url: str
    relay_url: str
    ca_file: str
    workspace: str
    admin_token_file: str
    pids: dict[str, int | list[int]]
    admin_urls: dict[str, str | list[str]]
    nodes: list[SandboxNode] = field(default_factory=list)
    relay_urls: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Replace the file, atomically."""
        write_atomic(path, (json.dumps(asdict(self), indent=2) + "\n").encode())


def read_description(path: Path) -> dict[str, Any] | None:
    """What a `sandbox.json` says, or None where there is none that can be read."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
