"""Revocations and locks: durable before they are acknowledged, numbered with the trust document that first has them."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.records import Lock, Revocation


async def revoke(
    session: AsyncSession, kind: str, name: str, *, expire_time: int | None, revoked_by: str, now_ms: int
) -> int:
    """Revoke one thing; asked again, changes nothing. Returns the sequence of the trust document that first has it."""
    known = await session.get(Revocation, (kind, name))
    if known is not None and (known.expire_time is None or known.expire_time > now_ms):
        return known.sequence
    if known is not None:
        await session.delete(known)
        await session.flush()
    sequence = await next_trust_sequence(session, now_ms)
    session.add(
        Revocation(
            kind=kind,
            id=name,
            sequence=sequence,
            expire_time=expire_time,
            creation_time=now_ms,
            revoked_by=revoked_by,
        )
    )
    return sequence


async def all_revocations(session: AsyncSession) -> Sequence[Revocation]:
    """Return all revocations."""
    return (await session.scalars(select(Revocation))).all()


async def is_revoked(session: AsyncSession, kind: str, name: str) -> bool:
    """Tell whether this was revoked."""
    return await session.get(Revocation, (kind, name)) is not None


async def list_page(session: AsyncSession, *, kind: str | None, after: int | None, most: int) -> Sequence[Revocation]:
    """Return revocations in the order they were made, those after the sequence given (each has its own)."""
    query = select(Revocation).order_by(Revocation.sequence).limit(most)
    if kind is not None:
        query = query.where(Revocation.kind == kind)
    if after is not None:
        query = query.where(Revocation.sequence > after)
    return (await session.scalars(query)).all()


async def all_locks(session: AsyncSession) -> Sequence[Lock]:
    """Return all locks, each kind together."""
    return (await session.scalars(select(Lock).order_by(Lock.kind, Lock.id))).all()


async def remove_expired(session: AsyncSession, before_ms: int) -> None:
    """Forget revocations and locks of things that expired before this time."""
    await session.execute(delete(Revocation).where(Revocation.expire_time < before_ms))
    await session.execute(delete(Lock).where(Lock.expire_time < before_ms))
