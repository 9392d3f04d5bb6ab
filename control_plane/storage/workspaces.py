"""Workspaces: creating, finding by id or name, listing, and their end."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import is_id, new_id
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Submission
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.joining import JoinPolicy, JoinRequest, JoinToken
from control_plane.storage.records.nodes import Cluster
from control_plane.storage.records.secrets import SecretDataKey, SecretGrant, SecretScope


async def find(session: AsyncSession, address: str) -> Workspace | None:
    """Return the workspace with this id or name."""
    column = Workspace.workspace_id if is_id(address) else Workspace.workspace
    query = select(Workspace).where(column == address, Workspace.delete_time.is_(None))
    return (await session.scalars(query)).one_or_none()


def add(session: AsyncSession, account_id: str, name: str, now_ms: int) -> Workspace:
    """Create a workspace."""
    workspace = Workspace(workspace_id=new_id("ws"), account_id=account_id, workspace=name, creation_time=now_ms)
    session.add(workspace)
    return workspace


async def list_page(session: AsyncSession, *, after: str | None, most: int) -> Sequence[Workspace]:
    """Return workspaces by name, those after the name given."""
    query = select(Workspace).where(Workspace.delete_time.is_(None)).order_by(Workspace.workspace).limit(most)
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


async def end(session: AsyncSession, workspace: Workspace, now_ms: int) -> None:
    """End a workspace: it is found no more, its name is free, and what let anybody in or gave anything out is gone.

    Its commands, their history, and its nodes may be very many: they go later, in pieces (`forgetting.forget_deleted`).
    """
    for table in (JoinToken, JoinRequest, JoinPolicy, SecretGrant, SecretScope, SecretDataKey, InitScript, Cluster):
        await session.execute(delete(table).where(table.workspace_id == workspace.workspace_id))
    rollouts = update(Submission).where(Submission.workspace_id == workspace.workspace_id, Submission.rollout_open)
    await session.execute(rollouts.values(rollout_open=False))
    workspace.workspace = workspace.workspace_id  # which is no name, and so nobody else's
    workspace.quotas = None
    workspace.delete_time = now_ms
