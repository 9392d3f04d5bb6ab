"""What is logged and reported of nodes' links: all of it, but of a node that has it happen without end a few a minute.

Whoever has a node's key can attach, or pose as its clone, hundreds of times a second. Each would be lines of the log
and items of reports, and each alarm a row of the audit, in which others would be missed, or for which no room is left.
"""

import time
from collections.abc import Callable
from typing import Final, Protocol

from trunkline.runtime.logs import Logger

Report = Callable[..., None]
"""Takes a report item: its type, and its members as keywords."""

MOST_OF_A_NODE: Final = 60
MOST_ALARMS_OF_A_NODE: Final = 5
WINDOW_SECONDS: Final = 60.0
MOST_REMEMBERED: Final = 4096
CLONE_ALARM: Final = "clone_alarm"


class Node(Protocol):
    """What is needed of a listener, or of the grant for one."""

    @property
    def node_id(self) -> str:
        """The node."""
        ...

    @property
    def node(self) -> str:
        """Its name."""
        ...

    @property
    def workspace_id(self) -> str:
        """Its workspace."""
        ...

    @property
    def workspace(self) -> str:
        """The name of its workspace."""
        ...


class LinkEvents:
    """Tells of what happens; the next that is told says, as its `count`, how many it stands for."""

    def __init__(self, report: Report, log: Logger, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._report = report
        self._log = log
        self._monotonic = monotonic
        self._told: dict[tuple[str, str], tuple[float, int, int]] = {}
        """By kind and node, the newest at the end: since when, how often it was told, and how many were left out."""

    def attached(self, node: Node, instance: str, sequence: int) -> None:
        """Tell that a node has a link."""
        if (told := self._tell("link_attached", node)) is not None:
            self._report("link_attached", node_id=node.node_id, workspace_id=node.workspace_id, **told)
            self._log.info("link.attached", **_named(node), instance=instance, sequence=sequence, **told)

    def detached(self, node: Node, sequence: int) -> None:
        """Tell that a node's link has ended."""
        if (told := self._tell("link_detached", node)) is not None:
            self._report("link_detached", node_id=node.node_id, workspace_id=node.workspace_id, **told)
            self._log.info("link.detached", **_named(node), sequence=sequence, **told)

    def superseded(self, node: Node, sequence: int) -> None:
        """Tell that a node's link has a successor."""
        if (told := self._tell("link_superseded", node)) is not None:
            self._log.info("link.superseded", **_named(node), sequence=sequence, **told)

    def refused(self, node: Node, outcome: str) -> None:
        """Tell that a link of a node was not taken."""
        if (told := self._tell("link_refused", node)) is not None:
            self._report("link_refused", node_id=node.node_id, workspace_id=node.workspace_id, outcome=outcome, **told)

    def cloned(self, node: Node, instance: str) -> None:
        """Raise the alarm that another process has a node's identity while the node is there."""
        if (told := self._tell(CLONE_ALARM, node, MOST_ALARMS_OF_A_NODE)) is not None:
            self._report(CLONE_ALARM, node_id=node.node_id, workspace_id=node.workspace_id, instance=instance, **told)
            self._log.error("link.clone", **_named(node), instance=instance, **told)

    def _tell(self, kind: str, node: Node, most: int = MOST_OF_A_NODE) -> dict[str, int] | None:
        """Return what to say beside it of what was left out before; None if this is left out too."""
        key, now = (kind, node.node_id), self._monotonic()
        since, told, left_out = self._told.pop(key, (now, 0, 0))
        if now - since >= WINDOW_SECONDS:
            since, told = now, 0
        is_told = told < most
        self._told[key] = (since, told + 1, 0 if is_told else left_out + 1)
        while len(self._told) > MOST_REMEMBERED:
            del self._told[next(iter(self._told))]
        if not is_told:
            return None
        return {"count": left_out + 1} if left_out else {}


def _named(node: Node) -> dict[str, str]:
    return {"node_id": node.node_id, "node": node.node, "workspace": node.workspace}
