"""Readiness of a relay that was deleted or revoked: once its nodes have left it, nothing is to be sent to it any more.

The control plane tells such a relay nothing but 401, and its nodes leave it by the trust document that they have from
elsewhere. Both together are what counts. A control plane that refuses a relay by mistake, such as one whose database
was restored from before the relay enrolled, takes no relay out of service that nodes are linked to.
"""

from trunkline.runtime.lifecycle import Condition

UNAUTHENTICATED_STATUS = 401


class InService:
    """Keeps the condition, which is met to begin with."""

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        self._refused: str | None = None
        self._nodes = 0
        self._met = True
        condition.met()

    def confirmed(self) -> None:
        """The control plane has spoken to this relay as to one of its own."""
        self._refused = None
        self._look()

    def refused(self, status: int, reason: str) -> None:
        """The control plane has answered with this status and reason."""
        if status == UNAUTHENTICATED_STATUS:
            self._refused = reason
            self._look()

    def counted(self, nodes: int) -> None:
        """Hear how many nodes have a link now."""
        self._nodes = nodes
        self._look()

    def _look(self) -> None:
        met = self._refused is None or self._nodes > 0
        if met == self._met:
            return
        self._met = met
        if met:
            self._condition.met()
        else:
            self._condition.unmet(f"the control plane refuses this relay, and no node is linked to it: {self._refused}")
