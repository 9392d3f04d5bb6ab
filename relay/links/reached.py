"""What a call can be sent to: a node's link, held here or by another worker of this relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trunkline.channel.link_stream import LinkStream, StreamHandler
from trunkline.channel.outcomes import Outcome


class Caller(StreamHandler, Protocol):
    """The handler of a call's stream."""

    def fail(self, outcome: Outcome, message: str) -> None:
        """End the call with an outcome of the relay's."""
        ...


class Reached:
    """A node as calls see it.

    Attributes:
        current: whether new calls may be sent here; False once there is a newer link, or none.
    """

    __slots__ = ("current", "node", "node_id", "spiffe_id", "workspace", "workspace_id")

    def __init__(self, *, node_id: str, workspace_id: str, node: str, workspace: str, spiffe_id: str) -> None:
        self.node_id: str = node_id
        self.workspace_id: str = workspace_id
        self.node: str = node
        self.workspace: str = workspace
        self.spiffe_id: str = spiffe_id
        self.current: bool = False

    def open(self, caller: Caller, sender: int) -> LinkStream:
        """Open a stream for a call of a sender; raises ChannelError as `Link.open` does."""
        raise NotImplementedError

    def prefix_for(self, sender: int) -> bytes:
        """Return what has to be sent before the first bytes of a call of a sender."""
        return b""

    def call_when_openable(self, callback: Callable[[], None]) -> None:
        """Call back once when opening may succeed again; see `Link.call_when_openable`."""
        raise NotImplementedError

    def call_no_more(self, callback: Callable[[], None]) -> None:
        """Do not call back any more; see `Link.call_no_more`."""
        raise NotImplementedError
