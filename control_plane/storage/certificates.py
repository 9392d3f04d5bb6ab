"""SVIDs that were issued: to answer the same CSR alike, to confirm, and to revoke what an identity had before."""

from collections.abc import Sequence

from sqlalchemy import delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.trust import Revocation

BATCH = 2_000
"""So many are forgotten at once, which takes a tenth of a second."""


async def find(session: AsyncSession, serial: str) -> Certificate | None:
    """Return the certificate with this serial number (lower-case hexadecimal)."""
    return await session.get(Certificate, serial)


async def find_for_csr(session: AsyncSession, subject_id: str, csr_sha256: str, now_ms: int) -> Certificate | None:
    """Return the live certificate that the subject was given for this very CSR."""
    query = (
        select(Certificate)
        .where(
            Certificate.subject_id == subject_id,
            Certificate.csr_sha256 == csr_sha256,
            Certificate.expire_time > now_ms,
        )
        .order_by(Certificate.issue_time.desc())
        .limit(1)
    )
    return (await session.scalars(query)).one_or_none()


async def next_issue_time(session: AsyncSession, subject_id: str, now_ms: int) -> int:
    """Return the time at which the subject's next certificate counts as issued: now, and later than all that it had.

    By it the later of two is told. A clock that was set back would have made the earlier one outdate its successors.
    """
    newest = await session.scalar(select(func.max(Certificate.issue_time)).where(Certificate.subject_id == subject_id))
    return now_ms if newest is None else max(now_ms, newest + 1)


async def live_before(
    session: AsyncSession, certificate: Certificate, now_ms: int, *, most: int
) -> Sequence[Certificate]:
    """Return what the subject had before it bootstrapped to this certificate and is good still; so many at most.

    What was renewed, or taken back on record, later is among it: as long as the certificate is not confirmed, only
    whoever held an earlier one can have come with it.
    """
    query = select(Certificate).where(
        Certificate.subject_id == certificate.subject_id,
        Certificate.serial != certificate.serial,
        or_(Certificate.issue_time <= certificate.issue_time, Certificate.origin.in_(("renewal", "taken_back"))),
        Certificate.expire_time > now_ms,
        ~select(Revocation.id).where(Revocation.kind == "certificate", Revocation.id == Certificate.serial).exists(),
    )
    return (await session.scalars(query.limit(most))).all()


async def bootstrapped_since(session: AsyncSession, subject_id: str, since_ms: int) -> bool:
    """Tell whether the subject has confirmed a bootstrap after this time."""
    query = select(Certificate.serial).where(
        Certificate.subject_id == subject_id,
        Certificate.origin == "bootstrap",
        Certificate.confirm_time > since_ms,
    )
    return (await session.scalars(query.limit(1))).first() is not None


async def is_outdated(session: AsyncSession, certificate: Certificate) -> bool:
    """Tell whether its subject has confirmed a certificate that was issued later."""
    query = select(Certificate.serial).where(
        Certificate.subject_id == certificate.subject_id,
        Certificate.issue_time > certificate.issue_time,
        Certificate.confirm_time.is_not(None),
    )
    return (await session.scalars(query.limit(1))).first() is not None


async def remove_expired(session: AsyncSession, before_ms: int) -> bool:
    """Forget certificates that expired before this time, `BATCH` at most; returns whether there may be more."""
    old = select(Certificate.serial).where(Certificate.expire_time < before_ms).limit(BATCH)
    found = (await session.scalars(old)).all()
    await session.execute(delete(Certificate).where(Certificate.serial.in_(found)))
    return len(found) >= BATCH


async def remove_expired_between(session: AsyncSession, after_ms: int, until_ms: int) -> int:
    """Forget certificates that expired after the one time, and not after the other; returns how many."""
    span = Certificate.expire_time > after_ms, Certificate.expire_time <= until_ms
    serials = (await session.scalars(select(Certificate.serial).where(*span))).all()
    await session.execute(delete(Certificate).where(*span))
    return len(serials)


async def remove_revoked(session: AsyncSession, revoked_before_ms: int) -> None:
    """Forget certificates whose revocations are about to be forgotten, so that nobody can renew late by them."""
    gone = select(Revocation.id).where(Revocation.kind == "certificate", Revocation.expire_time < revoked_before_ms)
    await session.execute(delete(Certificate).where(Certificate.serial.in_(gone)))
