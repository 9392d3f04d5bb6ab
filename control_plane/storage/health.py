"""Health observations: what checks of nodes found, kept for a bounded time."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.nodes import HealthObservation

BATCH = 5_000


async def list_page(
    session: AsyncSession, node_id: str, *, before: int | None, most: int
) -> Sequence[HealthObservation]:
    """Return a node's observations, newest first, that came before the one with the id `before`."""
    query = select(HealthObservation).where(HealthObservation.node_id == node_id)
    if before is not None:
        query = query.where(HealthObservation.observation_id < before)
    return (await session.scalars(query.order_by(HealthObservation.observation_id.desc()).limit(most))).all()


async def remove_old(session: AsyncSession, before_ms: int) -> bool:
    """Forget observations made before this time, `BATCH` at most; returns whether there may be more."""
    old = select(HealthObservation.observation_id).where(HealthObservation.time < before_ms).limit(BATCH)
    found = (await session.scalars(old)).all()
    await session.execute(delete(HealthObservation).where(HealthObservation.observation_id.in_(found)))
    return len(found) >= BATCH
