"""What a sandbox is to be: how many nodes and relays, in which workspace, with which ports open."""

from __future__ import annotations

from dataclasses import dataclass

from trunkline.sandbox.layout import Layout, node_names

DEFAULT_PORTS = (4040, 8000, 8080, 9100)


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """The choices of whoever starts a sandbox.

    Attributes:
        layout: where it is.
        node_count: how many nodes it has, `vm-1` and on.
        relay_count: how many relays it has, `relay-1` and on.
        workspace: the workspace that they are in.
        ports: the ports of this machine's loopback that a new node's policy opens.
        name_suffix: the suffix of the nodes' names.
        platform: the emulated cloud whose machines the nodes are: `azure`, `aws` or `gcp`.
    """

    layout: Layout
    node_count: int = 2
    relay_count: int = 1
    workspace: str = "main"
    ports: tuple[int, ...] = DEFAULT_PORTS
    name_suffix: str = "trunk.internal"
    platform: str = "azure"

    @property
    def nodes(self) -> list[str]:
        """The nodes' names."""
        return node_names(self.node_count)

    @property
    def relays(self) -> list[str]:
        """The relays' roles: `relay`, `relay-2`, …; the directory of each has that name."""
        return ["relay", *(f"relay-{number}" for number in range(2, self.relay_count + 1))]
