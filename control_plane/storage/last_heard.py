"""When this database was last written to by a control plane that ran: by the audit, and by who was heard of."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import audit
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay


async def nearest_time(session: AsyncSession, now_ms: int) -> int | None:
    """Return the time nearest to now at which a node or relay was last heard of, or the last event was recorded.

    None where there is none. Not the newest: what a clock of long ago had put into the future would be that for ever.
    """
    times = [await audit.last_time(session)]
    for last_seen in (Node.last_seen_time, Relay.last_seen_time):
        nearest = select(last_seen).where(last_seen.is_not(None)).order_by(func.abs(last_seen - now_ms)).limit(1)
        times.append(await session.scalar(nearest))
    return min((time for time in times if time is not None), key=lambda time: abs(time - now_ms), default=None)
