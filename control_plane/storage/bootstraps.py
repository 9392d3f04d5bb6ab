"""What bootstrap remembers for a while: nonces given out, and answers for whoever asks again."""

from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.accounts import token_hash
from control_plane.storage.records.joining import Challenge, IssuedAnswer


async def count_challenges(session: AsyncSession) -> int:
    """Return how many nonces are outstanding."""
    return (await session.scalars(select(func.count()).select_from(Challenge))).one()


def add_challenge(session: AsyncSession, nonce: str, expire_time: int) -> None:
    """Remember a nonce, by its hash."""
    session.add(Challenge(nonce_sha256=token_hash(nonce), expire_time=expire_time))


async def make_room(session: AsyncSession, most: int) -> None:
    """Forget the oldest nonces, so that no more than so many are outstanding."""
    kept = select(Challenge.nonce_sha256).order_by(Challenge.expire_time.desc(), Challenge.nonce_sha256).limit(most)
    await session.execute(delete(Challenge).where(Challenge.nonce_sha256.not_in(kept)))


async def is_open(session: AsyncSession, nonce: str, now_ms: int) -> bool:
    """Tell whether a nonce is outstanding, without using it up."""
    challenge = await session.get(Challenge, token_hash(nonce))
    return challenge is not None and challenge.expire_time > now_ms


async def use_challenge(session: AsyncSession, nonce: str, now_ms: int) -> bool:
    """Use a nonce up; False if it is unknown, used, or expired."""
    challenge = await session.get(Challenge, token_hash(nonce))
    if challenge is None:
        return False
    await session.delete(challenge)
    return challenge.expire_time > now_ms


async def find_answer(session: AsyncSession, credential: str, csr_sha256: str, now_ms: int) -> IssuedAnswer | None:
    """Return what this credential and CSR were answered before."""
    answer = await session.get(IssuedAnswer, (token_hash(credential), csr_sha256))
    return answer if answer is not None and answer.expire_time > now_ms else None


async def has_answer(session: AsyncSession, credential: str, now_ms: int) -> bool:
    """Tell whether this credential was answered before, for whatever CSR."""
    query = select(IssuedAnswer.subject_id).where(
        IssuedAnswer.credential_sha256 == token_hash(credential), IssuedAnswer.expire_time > now_ms
    )
    return (await session.scalars(query.limit(1))).first() is not None


async def keep_answer(
    session: AsyncSession,
    credential: str,
    csr_sha256: str,
    *,
    subject_id: str,
    answer: dict[str, Any],
    expire_time: int,
) -> None:
    """Remember an answer; an expired one under the same key is replaced."""
    await session.merge(
        IssuedAnswer(
            credential_sha256=token_hash(credential),
            csr_sha256=csr_sha256,
            subject_id=subject_id,
            answer=answer,
            expire_time=expire_time,
        )
    )


async def remove_expired(session: AsyncSession, before_ms: int) -> None:
    """Forget what expired before this time."""
    await session.execute(delete(Challenge).where(Challenge.expire_time < before_ms))
    await session.execute(delete(IssuedAnswer).where(IssuedAnswer.expire_time < before_ms))
