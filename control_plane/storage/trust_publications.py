"""Which trust documents were ever published, here or, taken back, by the database that this one was restored for.

So a document that a relay holds, and that is not among them, was published by a database that is gone: this one was
restored from a backup that is older.
"""

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.trust import TrustPublication

KEPT = 10_000


async def record(session: AsyncSession, sequence: int, fingerprint: str, now_ms: int) -> None:
    """Note a document that is about to be published, or that was taken back."""
    if await session.get(TrustPublication, (sequence, fingerprint)) is None:
        session.add(TrustPublication(sequence=sequence, fingerprint=fingerprint, time=now_ms))


async def was_published(session: AsyncSession, sequence: int, fingerprint: str, *, current: int) -> bool:
    """Tell whether this control plane has published a document; one from before its records counts as published.

    Args:
        session: the transaction.
        sequence: the document's number.
        fingerprint: of its content.
        current: the number of the document that is published now.
    """
    if sequence > current:
        return False
    if await session.get(TrustPublication, (sequence, fingerprint)) is not None:
        return True
    oldest: int | None = (await session.execute(select(func.min(TrustPublication.sequence)))).scalar()
    return oldest is None or sequence < oldest


async def remove_old(session: AsyncSession, current: int) -> None:
    """Forget all but the newest."""
    await session.execute(delete(TrustPublication).where(TrustPublication.sequence <= current - KEPT))
