"""Signers: authorities and token keys, as rows; and what of them the trust document says."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.signers import Signer

TRUSTED = "trusted"
LEFT = "left"
REVOKED = "revoked"
WITHDRAWN = "withdrawn"
ENDED = (LEFT, REVOKED, WITHDRAWN)


def add(
    session: AsyncSession,
    signer_id: str,
    kind: str,
    form: Mapping[str, Any],
    key_names: Mapping[str, str],
    now_ms: int,
) -> Signer:
    """Add a signer that is trusted from this transaction on; its keys are on the disk already."""
    signer = Signer(
        signer_id=signer_id,
        kind=kind,
        form=dict(form),
        key_names=dict(key_names),
        state=TRUSTED,
        creation_time=now_ms,
        end_time=None,
        tokens_until=None,
    )
    session.add(signer)
    return signer


async def find(session: AsyncSession, signer_id: str) -> Signer | None:
    """Return the signer with this id: a root's SHA-256, or a key's `kid`."""
    return await session.get(Signer, signer_id)


async def trusted(session: AsyncSession, kind: str) -> Sequence[Signer]:
    """Return the signers of a kind that are trusted, oldest first."""
    query = select(Signer).where(Signer.kind == kind, Signer.state == TRUSTED)
    return (await session.scalars(query.order_by(Signer.creation_time, Signer.signer_id))).all()


async def left_since(session: AsyncSession, kind: str, since_ms: int, *, most: int) -> Sequence[Signer]:
    """Return the signers of a kind that were left after this time, the latest first; not those that were revoked."""
    query = select(Signer).where(Signer.kind == kind, Signer.state == LEFT, Signer.end_time > since_ms)
    return (await session.scalars(query.order_by(Signer.end_time.desc(), Signer.signer_id).limit(most))).all()


async def ended(session: AsyncSession) -> Sequence[Signer]:
    """Return the signers that are trusted no more, whose keys have no use."""
    return (await session.scalars(select(Signer).where(Signer.state.in_(ENDED)))).all()


def end(signer: Signer, state: str, now_ms: int) -> None:
    """Trust a signer no more."""
    signer.state = state
    signer.end_time = now_ms


async def note_token(session: AsyncSession, signer_id: str, until_ms: int) -> None:
    """Take note that a token of this key is out, which ends at that time."""
    later = or_(Signer.tokens_until.is_(None), Signer.tokens_until < until_ms)
    statement = update(Signer).where(Signer.signer_id == signer_id, later).values(tokens_until=until_ms)
    await session.execute(statement)
