"""Links that were superseded, and finish their calls: few of each node, or it could collect links by dialling again.

A link that takes another's place counts for nothing towards the links of its workspace, so that a node whose network
has changed is never without one. An agent has one or two that finish, after a renewal and a change of its network.
"""

from typing import Final

from relay.links.listeners import Listener

MOST_OF_A_NODE: Final = 8


class Superseded:
    """By node, the oldest first."""

    def __init__(self) -> None:
        self._by_node: dict[str, dict[Listener, None]] = {}

    def add(self, listener: Listener) -> Listener | None:
        """Enter one; returns the one that has to go for it, if its node has too many."""
        finishing = self._by_node.setdefault(listener.node_id, {})
        finishing[listener] = None
        if len(finishing) <= MOST_OF_A_NODE:
            return None
        surplus = next(iter(finishing))
        del finishing[surplus]
        return surplus

    def discard(self, listener: Listener) -> None:
        """Forget one, if it is here."""
        finishing = self._by_node.get(listener.node_id)
        if finishing is not None:
            finishing.pop(listener, None)
            if not finishing:
                del self._by_node[listener.node_id]
