"""Token keys: the public halves that the trust document lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.accounts import next_trust_sequence
from control_plane.storage.records import TokenKey


async def list_token_keys(session: AsyncSession) -> Sequence[TokenKey]:
    """Return all token keys, oldest first."""
    return (await session.scalars(select(TokenKey).order_by(TokenKey.creation_time, TokenKey.kid))).all()


async def add_token_key(session: AsyncSession, described: Mapping[str, Any], now_ms: int) -> None:
    """Add a key as `certs.keyring.describe_token_key` describes it; a known key changes nothing."""
    if await session.get(TokenKey, described["kid"]) is not None:
        return
    session.add(TokenKey(kid=described["kid"], alg=described["alg"], jwk=dict(described["jwk"]), creation_time=now_ms))
    await next_trust_sequence(session, now_ms)
