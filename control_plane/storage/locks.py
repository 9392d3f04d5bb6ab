"""Locks: made and lifted durably, each change numbered with the trust document that first says so.

A lock is in force until it is lifted, or its time is over by the clock as it is: one that has ended by a clock that was
ahead, which may have been noted meanwhile, is in force again once that is set right.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import limit_reached
from control_plane.names import new_id
from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.records.trust import Lock

MOST_LOCKS = 1000
"""In force at once: every agent looks at them in turn, for each stream."""
REPETITION_MS = 600_000


@dataclass(frozen=True, slots=True)
class LockRequest:
    """What to lock, for how long, and why."""

    kind: str
    id: str
    lifetime_seconds: int
    reason: str


async def create(session: AsyncSession, wanted: LockRequest, locked_by: str, now_ms: int) -> tuple[Lock, bool]:
    """Lock something; returns the lock, and whether it is new.

    The same request sent again within ten minutes, while its lock is in force, is a repetition, and changes nothing.

    Raises:
        ApiError: there are too many.
    """
    known = await _repeated(session, wanted, now_ms)
    if known is not None:
        return known, False
    standing = select(func.count()).select_from(Lock).where(*_in_force(now_ms))
    if (await session.scalars(standing)).one() >= MOST_LOCKS:
        raise limit_reached(f"there are {MOST_LOCKS} locks in force: lift some, or revoke")
    lock = Lock(
        lock_id=new_id("lk"),
        kind=wanted.kind,
        id=wanted.id,
        reason=wanted.reason,
        lifetime_seconds=wanted.lifetime_seconds,
        sequence=await next_trust_sequence(session, now_ms),
        creation_time=now_ms,
        expire_time=now_ms + wanted.lifetime_seconds * 1000,
        locked_by=locked_by,
        ended=False,
    )
    session.add(lock)
    return lock, True


async def lift(session: AsyncSession, lock: Lock, lifted_by: str, now_ms: int) -> bool:
    """End a lock before its time; returns whether it was still in force."""
    if lock.lift_time is not None or lock.expire_time <= now_ms:
        return False
    lock.ended = True
    lock.lift_time = now_ms
    lock.lifted_by = lifted_by
    lock.lift_sequence = await next_trust_sequence(session, now_ms)
    return True


async def find(session: AsyncSession, lock_id: str) -> Lock | None:
    """Return the lock with this id."""
    return await session.get(Lock, lock_id)


async def in_force(session: AsyncSession, now_ms: int) -> Sequence[Lock]:
    """Return the locks in force, in the order they were made."""
    query = select(Lock).where(*_in_force(now_ms))
    return (await session.scalars(query.order_by(Lock.sequence, Lock.lock_id))).all()


async def is_locked(session: AsyncSession, kind: str, name: str, now_ms: int) -> bool:
    """Tell whether a lock on this is in force."""
    query = select(Lock.lock_id).where(Lock.kind == kind, Lock.id == name, *_in_force(now_ms))
    return (await session.scalars(query.limit(1))).one_or_none() is not None


async def newest_sequence(session: AsyncSession, kind: str, name: str) -> int | None:
    """Return the number of the newest lock on this, past ones included."""
    query = select(Lock.sequence).where(Lock.kind == kind, Lock.id == name).order_by(Lock.sequence.desc())
    return (await session.scalars(query.limit(1))).one_or_none()


async def list_page(
    session: AsyncSession, *, kind: str | None, ended: bool, after: int | None, most: int, now_ms: int
) -> Sequence[Lock]:
    """Return locks in the order they were made (each has a sequence of its own); with `ended`, past ones too."""
    query = select(Lock).order_by(Lock.sequence).limit(most)
    if kind is not None:
        query = query.where(Lock.kind == kind)
    if not ended:
        query = query.where(*_in_force(now_ms))
    if after is not None:
        query = query.where(Lock.sequence > after)
    return (await session.scalars(query)).all()


async def end_expired(session: AsyncSession, now_ms: int) -> Sequence[Lock]:
    """Note that locks have expired; returns those that were not noted before. What is in force again is noted too."""
    await session.execute(update(Lock).where(Lock.ended.is_(True), *_in_force(now_ms)).values(ended=False))
    query = select(Lock).where(Lock.ended.is_(False), Lock.expire_time <= now_ms)
    expired = (await session.scalars(query)).all()
    for lock in expired:
        lock.ended = True
    return expired


async def remove_old(session: AsyncSession, before_ms: int) -> None:
    """Forget locks that ended before this time."""
    await session.execute(delete(Lock).where(Lock.ended.is_(True), Lock.expire_time < before_ms))


def _in_force(now_ms: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Lock.lift_time.is_(None), Lock.expire_time > now_ms


async def _repeated(session: AsyncSession, wanted: LockRequest, now_ms: int) -> Lock | None:
    query = select(Lock).where(
        Lock.kind == wanted.kind,
        Lock.id == wanted.id,
        Lock.reason == wanted.reason,
        Lock.lifetime_seconds == wanted.lifetime_seconds,
        *_in_force(now_ms),
        Lock.creation_time > now_ms - REPETITION_MS,
    )
    return (await session.scalars(query.order_by(Lock.creation_time.desc()).limit(1))).one_or_none()
