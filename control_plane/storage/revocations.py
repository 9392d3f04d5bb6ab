"""Revocations: durable before they are acknowledged, numbered with the trust document that first has them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import limit_reached
from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.trust import Revocation

MOST_REVOCATIONS = 40_000
"""What a trust document of 4 MiB holds, with room to spare; one that could not be signed would end no credential."""
OF_OPERATORS = 10_000
"""Of these, the last are for operators, whatever nodes do."""
SUBJECT_PART = 64
"""Coming back again and again, a node ends certificates of its own as long as they are no more than this part of what
is left: however many nodes do so, there is room for one that has ended few."""
FULL = f"there are {MOST_REVOCATIONS} revocations already: revoke the node or workspace behind them, or rotate the key"


class Ended(NamedTuple):
    """Something that was revoked; without `expire_time` it is so for good."""

    kind: str
    id: str
    expire_time: int | None


async def revoke(
    session: AsyncSession, kind: str, name: str, *, expire_time: int | None, revoked_by: str, now_ms: int
) -> int:
    """Revoke one thing; asked again, changes nothing. Returns the sequence of the trust document that first has it.

    Raises:
        ApiError: there are so many that a trust document could not hold another.
    """
    known = await session.get(Revocation, (kind, name))
    if known is not None and (known.expire_time is None or known.expire_time > now_ms):
        return known.sequence
    if known is not None:
        await session.delete(known)
        await session.flush()
    if await count(session) >= MOST_REVOCATIONS:
        raise limit_reached(FULL)
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


async def revoke_certificates(
    session: AsyncSession, certificates: Iterable[Certificate], *, revoked_by: str, now_ms: int
) -> None:
    """Revoke each of these certificates, until it would have expired.

    Raises:
        ApiError: as of `revoke`.
    """
    for certificate in certificates:
        await revoke(
            session,
            "certificate",
            certificate.serial,
            expire_time=certificate.expire_time,
            revoked_by=revoked_by,
            now_ms=now_ms,
        )


async def count(session: AsyncSession) -> int:
    """Return how many there are."""
    return (await session.scalars(select(func.count()).select_from(Revocation))).one()


async def room_of(session: AsyncSession, subject_id: str) -> int:
    """Return how many more certificates a node may end by coming back."""
    left = MOST_REVOCATIONS - OF_OPERATORS - await count(session)
    of_subject = Certificate.serial == Revocation.id, Certificate.subject_id == subject_id
    ended = select(func.count()).select_from(Revocation).where(Revocation.kind == "certificate", *of_subject)
    return max(0, left // SUBJECT_PART - (await session.scalars(ended)).one())


async def find(session: AsyncSession, kind: str, name: str) -> Revocation | None:
    """Return the revocation of this thing."""
    return await session.get(Revocation, (kind, name))


async def all_ended(session: AsyncSession) -> Sequence[Ended]:
    """Return all that was revoked."""
    rows = await session.execute(select(Revocation.kind, Revocation.id, Revocation.expire_time))
    return [Ended(*row) for row in rows.all()]


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


async def remove_expired(session: AsyncSession, before_ms: int) -> None:
    """Forget revocations of things that expired before this time."""
    await session.execute(delete(Revocation).where(Revocation.expire_time < before_ms))
