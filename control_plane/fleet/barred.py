"""Nodes that nothing is sent to, since they or their workspaces are revoked or locked."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import locks, revocations
from control_plane.storage.records.nodes import Node


async def why_barred(session: AsyncSession, node: Node, now_ms: int) -> str | None:
    """Say why nothing is sent to the node at present, or None: no relay would carry it, and no agent take it."""
    revoked = await why_revoked(session, node)
    if revoked is not None:
        return revoked
    for kind, name in _named(node):
        if await locks.is_locked(session, kind, name, now_ms):
            return f"the {kind} is locked (`trunkline lock list`)"
    return None


async def why_revoked(session: AsyncSession, node: Node) -> str | None:
    """Say why nothing will be sent to the node, nor heard from it, ever again; None where that may be."""
    for kind, name in _named(node):
        if await revocations.is_revoked(session, kind, name):
            return f"the {kind} is revoked"
    return None


def _named(node: Node) -> tuple[tuple[str, str], ...]:
    return (("node", node.node_id), ("workspace", node.workspace_id))
