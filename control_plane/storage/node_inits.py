"""How far the nodes' initialisations are, in the database."""

from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.init_scripts import NodeInit
from control_plane.storage.records.nodes import Node

PENDING, INITIALISING = "PENDING", "INITIALISING"


async def find(session: AsyncSession, node_id: str) -> NodeInit | None:
    """Return the node's latest initialisation; None for one that bootstrapped before there were any."""
    return await session.get(NodeInit, node_id)


async def of_nodes(session: AsyncSession, node_ids: Collection[str]) -> dict[str, NodeInit]:
    """Return the latest initialisations of these nodes by node id."""
    query = select(NodeInit).where(NodeInit.node_id.in_(list(node_ids)))
    return {row.node_id: row for row in (await session.scalars(query)).all()}


async def asked_for(session: AsyncSession) -> Sequence[tuple[Workspace, Node]]:
    """Return the nodes that an operator asked to initialise again, and that have not asked for their scripts since."""
    return await _of(session, NodeInit.state == PENDING, NodeInit.requested_by.is_not(None))


async def silent(session: AsyncSession, since_ms: int) -> Sequence[tuple[Workspace, Node]]:
    """Return the nodes whose initialisation has not ended, and of which nothing was heard in it since this time."""
    heard = func.coalesce(NodeInit.report_time, NodeInit.hand_time, NodeInit.request_time)
    return await _of(session, NodeInit.state.in_((PENDING, INITIALISING)), heard < since_ms)


async def _of(session: AsyncSession, *conditions: ColumnElement[bool]) -> list[tuple[Workspace, Node]]:
    query = (
        select(Workspace, Node)
        .join(Node, Node.workspace_id == Workspace.workspace_id)
        .join(NodeInit, NodeInit.node_id == Node.node_id)
        .where(*conditions, Node.confirm_time.is_not(None), Workspace.delete_time.is_(None))
    )
    return [(workspace, node) for workspace, node in (await session.execute(query)).all()]


async def count_by_state(session: AsyncSession) -> dict[str, int]:
    """Return how many nodes there are in each state."""
    query = select(NodeInit.state, func.count()).group_by(NodeInit.state)
    return {row[0]: row[1] for row in (await session.execute(query)).all()}
