"""What a registry hears of, and tells to, the other workers of its relay; a relay of one process has none."""

from typing import Final, Protocol

from relay.links.listeners import Listener
from relay.links.reached import Reached
from relay.links.supersede import Verdict
from relay.trust.credentials import ListenerGrant


class Elsewhere(Protocol):
    """The other workers, as a registry sees them."""

    def find(self, workspace: str, node: str) -> Reached | None:
        """Return the node of this name, if another worker has its link."""
        ...

    def holds(self, node_id: str) -> bool:
        """Whether another worker has a link of this node."""
        ...

    def links_of(self, workspace_id: str) -> int:
        """How many links of a workspace the others have."""
        ...

    async def contest(self, grant: ListenerGrant, instance: str, sequence: int) -> Verdict | None:
        """Judge a new link by the links of all workers; a rival that has to be pinged has been. None: nobody could."""
        ...

    def attached(self, listener: Listener) -> None:
        """This worker has the node's newest link now."""
        ...

    def retired(self, listener: Listener) -> None:
        """The link takes no new calls."""
        ...

    def detached(self, listener: Listener) -> None:
        """The link is gone."""
        ...

    def links_changed(self, workspace_id: str, links: int) -> None:
        """This worker has so many links of a workspace now."""
        ...


class _Nowhere:
    """There are no other workers."""

    def find(self, workspace: str, node: str) -> None:
        return None

    def holds(self, node_id: str) -> bool:
        return False

    def links_of(self, workspace_id: str) -> int:
        return 0

    async def contest(self, grant: ListenerGrant, instance: str, sequence: int) -> Verdict:
        return Verdict.ADMIT

    def attached(self, listener: Listener) -> None:
        pass

    def retired(self, listener: Listener) -> None:
        pass

    def detached(self, listener: Listener) -> None:
        pass

    def links_changed(self, workspace_id: str, links: int) -> None:
        pass


NOWHERE: Final = _Nowhere()
