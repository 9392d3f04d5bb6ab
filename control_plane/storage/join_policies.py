"""Join policies: creating, finding by id or name, listing, and all of a platform."""

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import is_id
from control_plane.storage.records.joining import JoinPolicy


async def of_platform(session: AsyncSession, platform: str) -> Sequence[JoinPolicy]:
    """Return every workspace's policies for a platform."""
    return (await session.scalars(select(JoinPolicy).where(JoinPolicy.platform == platform))).all()


async def find(session: AsyncSession, workspace_id: str, address: str) -> JoinPolicy | None:
    """Return the workspace's policy with this id or name."""
    column = JoinPolicy.join_policy_id if is_id(address) else JoinPolicy.join_policy
    query = select(JoinPolicy).where(JoinPolicy.workspace_id == workspace_id, column == address)
    return (await session.scalars(query)).one_or_none()


async def count(session: AsyncSession) -> int:
    """Return how many policies there are."""
    return (await session.scalars(select(func.count()).select_from(JoinPolicy))).one()


async def list_page(session: AsyncSession, workspace_id: str, *, after: str | None, most: int) -> Sequence[JoinPolicy]:
    """Return policies by name, those after the name given."""
    query = select(JoinPolicy).where(JoinPolicy.workspace_id == workspace_id).order_by(JoinPolicy.join_policy)
    if after is not None:
        query = query.where(JoinPolicy.join_policy > after)
    return (await session.scalars(query.limit(most))).all()
