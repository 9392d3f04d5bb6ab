"""The control plane's own tokens to ask nodes with, each of which serves for more than one question.

A new one costs a signature here, and a check of it at the relay and at the node, which know one again that they have
seen. It allows nothing but to read, so that a relay gains nothing by one that it sees twice.
"""

from collections.abc import Callable
from typing import NamedTuple

from certs.expiring import ExpiringEntries
from certs.tokens import IssuedToken
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

REUSED_SECONDS = 40.0
"""How long after it was issued a token serves further questions, of the minute for which it is good."""
MOST_KEPT = 20_000


class _Kept(NamedTuple):
    text: str
    issued_at: float


class ReadingTokens:
    """Tokens by node and scope, for as long as the key that they are signed with is the one that signs."""

    def __init__(
        self, issue: Callable[[Workspace, Node, str], IssuedToken], key_id: Callable[[], str], clock: Clock
    ) -> None:
        """`issue` makes a token for a node with one scope, `key_id` tells which key would sign it."""
        self._issue = issue
        self._key_id = key_id
        self._clock = clock
        self._kept: ExpiringEntries[_Kept] = ExpiringEntries(MOST_KEPT, lambda kept: kept.issued_at + REUSED_SECONDS)

    def token(self, workspace: Workspace, node: Node, scope: str) -> str:
        """Return a token for this node, under its present name, that is good for twenty seconds at least."""
        now = self._clock.now()
        key = f"{self._key_id()} {node.node_id} {workspace.workspace} {node.node} {scope}"
        kept = self._kept.entries.get(key)
        if kept is None or not 0.0 <= now - kept.issued_at < REUSED_SECONDS:
            kept = _Kept(self._issue(workspace, node, scope).text, now)
            self._kept.put(key, kept, now)
        return kept.text
