"""Workspaces: creating, finding by id or name, listing, deleting with all that is in them."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import is_id, new_id
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.records.joining import JoinPolicy, JoinRequest, JoinToken
from control_plane.storage.records.nodes import Cluster, Node


async def find(session: AsyncSession, address: str) -> Workspace | None:
    """Return the workspace with this id or name."""
    column = Workspace.workspace_id if is_id(address) else Workspace.workspace
    return (await session.scalars(select(Workspace).where(column == address))).one_or_none()


def add(session: AsyncSession, account_id: str, name: str, now_ms: int) -> Workspace:
    """Create a workspace."""
    workspace = Workspace(workspace_id=new_id("ws"), account_id=account_id, workspace=name, creation_time=now_ms)
    session.add(workspace)
    return workspace


async def list_page(session: AsyncSession, *, after: str | None, most: int) -> Sequence[Workspace]:
    """Return workspaces by name, those after the name given."""
    query = select(Workspace).order_by(Workspace.workspace).limit(most)
    if after is not None:
        query = query.where(Workspace.workspace > after)
    return (await session.scalars(query)).all()


async def bounded(session: AsyncSession) -> Sequence[Workspace]:
    """Return the workspaces that have quotas."""
    return (await session.scalars(select(Workspace).where(Workspace.quotas.is_not(None)))).all()


async def count_bounded(session: AsyncSession) -> int:
    """Return how many workspaces have quotas."""
    query = select(func.count()).select_from(Workspace).where(Workspace.quotas.is_not(None))
    return (await session.scalars(query)).one()


async def remove(session: AsyncSession, workspace_id: str) -> None:
    """Delete a workspace and everything in it; audit events stay."""
    for table in (Command, Submission, JoinToken, JoinRequest, JoinPolicy, Cluster, Node, Workspace):
        await session.execute(delete(table).where(table.workspace_id == workspace_id))
