"""Join tokens, of nodes and of relays: kept as hashes, found by what is presented."""

import secrets
from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.accounts import token_hash
from control_plane.storage.records.joining import JoinToken
from control_plane.storage.records.relays import RelayJoinToken


def new_token(kind: str) -> str:
    """Return a new token: a readable prefix and 256 random bits, e.g. `tlj-…`."""
    return f"{kind}-{secrets.token_urlsafe(32)}"


async def find_presented(session: AsyncSession, token: str) -> JoinToken | None:
    """Return the node join token that was presented, by its hash."""
    return (await session.scalars(select(JoinToken).where(JoinToken.token_sha256 == token_hash(token)))).one_or_none()


async def find_presented_by_relay(session: AsyncSession, token: str) -> RelayJoinToken | None:
    """Return the relay join token that was presented, by its hash."""
    query = select(RelayJoinToken).where(RelayJoinToken.token_sha256 == token_hash(token))
    return (await session.scalars(query)).one_or_none()


async def list_page(session: AsyncSession, workspace_id: str, *, after: str | None, most: int) -> Sequence[JoinToken]:
    """Return the workspace's join tokens by id, those after the id given."""
    query = select(JoinToken).where(JoinToken.workspace_id == workspace_id).order_by(JoinToken.join_token_id)
    if after is not None:
        query = query.where(JoinToken.join_token_id > after)
    return (await session.scalars(query.limit(most))).all()


async def find(session: AsyncSession, workspace_id: str, join_token_id: str) -> JoinToken | None:
    """Return the workspace's join token with this id."""
    query = select(JoinToken).where(JoinToken.workspace_id == workspace_id, JoinToken.join_token_id == join_token_id)
    return (await session.scalars(query)).one_or_none()


async def remove_expired(session: AsyncSession, before_ms: int) -> None:
    """Forget tokens that expired before this time."""
    await session.execute(delete(JoinToken).where(JoinToken.expire_time < before_ms))
    await session.execute(delete(RelayJoinToken).where(RelayJoinToken.expire_time < before_ms))
