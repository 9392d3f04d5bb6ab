"""Endings: deleting a workspace, a node or a relay, which revokes in the same transaction what it was issued.

The revocation is kept until nothing that was issued before can still be valid.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.history.chronicle import Chronicle, Noted
from control_plane.history.events import Standing
from control_plane.settings import DAY_SECONDS
from control_plane.storage import commands, nodes, relays, revocations, workspaces
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay

LONGEST_ISSUED_SECONDS = 31 * DAY_SECONDS
"""Nothing issued lives longer: workspace tokens 30 days, SVIDs of relays at most 30; a day more for clocks."""


async def end_workspace(session: AsyncSession, workspace: Workspace, actor: Actor, now: float) -> int:
    """Delete a workspace, of which `WorkspaceRemoval` removes what is left in it.

    Returns the number of the trust document that says so.
    """
    sequence = await _revoke(session, "workspace", workspace.workspace_id, actor, now)
    happening = Happening("workspace.delete", resource=workspace.workspace, workspace_id=workspace.workspace_id)
    await workspaces.end(session, workspace, int(now * 1000))
    append(session, now, actor, happening)
    return sequence


async def end_node(
    session: AsyncSession, node: Node, actor: Actor, now: float, chronicle: Chronicle
) -> Sequence[Noted]:
    """Delete a node; its commands stay, and those that it had not finished are lost.

    Returns what was written down of these, for `Chronicle.done`.
    """
    noted: list[Noted] = []
    await _revoke(session, "node", node.node_id, actor, now)
    for command in await commands.open_of_node(session, node.node_id):
        before = Standing.of(command)
        command.state, command.final, command.reason = "LOST", True, "the node was deleted"
        command.end_time, command.unknown_since = int(now * 1000), None
        noted.append(await chronicle.changed(session, before, command))
        if not command.delivered:
            await session.flush()
            await commands.forget_spec(session, command)
    await nodes.remove(session, node.node_id)
    happening = Happening(
        "node.delete", resource=node.node, workspace_id=node.workspace_id, details={"node_id": node.node_id}
    )
    append(session, now, actor, happening)
    return noted


async def end_relay(session: AsyncSession, relay: Relay, actor: Actor, now: float) -> None:
    """Delete a relay; its live certificates are revoked one by one, since trust documents name no relays."""
    now_ms = int(now * 1000)
    live = await relays.live_certificates(session, relay.relay_id, now_ms)
    await revocations.revoke_certificates(session, live, revoked_by=actor.name, now_ms=now_ms)
    await relays.remove(session, relay.relay_id)
    append(session, now, actor, Happening("relay.delete", resource=relay.relay, details={"relay_id": relay.relay_id}))


async def _revoke(session: AsyncSession, kind: str, name: str, actor: Actor, now: float) -> int:
    return await revocations.revoke(
        session,
        kind,
        name,
        expire_time=int((now + LONGEST_ISSUED_SECONDS) * 1000),
        revoked_by=actor.name,
        now_ms=int(now * 1000),
    )
