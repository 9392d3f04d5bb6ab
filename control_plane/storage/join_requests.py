"""Requests that wait for an operator: one for each machine and signing request, bounded, and forgotten in time."""

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.joining import JoinRequest

PENDING = "pending"
MOST_OF_A_MACHINE = 4
"""Of those that wait."""
MOST_OF_A_WORKSPACE = 1000


async def find(session: AsyncSession, workspace_id: str, join_request_id: str) -> JoinRequest | None:
    """Return the workspace's request with this id."""
    query = select(JoinRequest).where(
        JoinRequest.workspace_id == workspace_id, JoinRequest.join_request_id == join_request_id
    )
    return (await session.scalars(query)).one_or_none()


async def find_for_csr(
    session: AsyncSession, workspace_id: str, machine_id: str, csr_sha256: str, now_ms: int
) -> JoinRequest | None:
    """Return the machine's request with this very signing request, if it has not expired."""
    query = select(JoinRequest).where(
        JoinRequest.workspace_id == workspace_id,
        JoinRequest.machine_id == machine_id,
        JoinRequest.csr_sha256 == csr_sha256,
    )
    found = (await session.scalars(query)).one_or_none()
    if found is not None and found.expire_time <= now_ms:
        await session.delete(found)
        await session.flush()
        return None
    return found


async def make_room(session: AsyncSession, workspace_id: str, machine_id: str) -> bool:
    """Forget the oldest of a machine's requests beyond its bound; returns whether the workspace has room for one.

    What an operator has decided about is kept: whoever else can speak for the machine could otherwise have an approval
    or a denial forgotten by asking often enough.
    """
    query = select(JoinRequest).where(
        JoinRequest.workspace_id == workspace_id, JoinRequest.machine_id == machine_id, JoinRequest.state == PENDING
    )
    for old in (
        await session.scalars(query.order_by(JoinRequest.last_time.desc()).offset(MOST_OF_A_MACHINE - 1))
    ).all():
        await session.delete(old)
    await session.flush()
    counting = select(func.count()).select_from(JoinRequest).where(JoinRequest.workspace_id == workspace_id)
    return (await session.scalars(counting)).one() < MOST_OF_A_WORKSPACE


async def list_page(
    session: AsyncSession, workspace_id: str, *, state: str | None, after: str | None, most: int
) -> Sequence[JoinRequest]:
    """Return requests by id, those after the id given."""
    query = select(JoinRequest).where(JoinRequest.workspace_id == workspace_id).order_by(JoinRequest.join_request_id)
    if state is not None:
        query = query.where(JoinRequest.state == state)
    if after is not None:
        query = query.where(JoinRequest.join_request_id > after)
    return (await session.scalars(query.limit(most))).all()


async def remove_expired(session: AsyncSession, before_ms: int) -> None:
    """Forget requests that expired before this time."""
    await session.execute(delete(JoinRequest).where(JoinRequest.expire_time < before_ms))
