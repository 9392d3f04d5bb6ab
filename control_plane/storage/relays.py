"""Relays: creating, finding, listing, deleting, and the addresses that senders and agents are given."""

from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.relays import Relay


async def find(session: AsyncSession, relay_id: str) -> Relay | None:
    """Return the relay with this id."""
    return await session.get(Relay, relay_id)


async def find_by_name(session: AsyncSession, name: str) -> Relay | None:
    """Return the relay with this name."""
    return (await session.scalars(select(Relay).where(Relay.relay == name))).one_or_none()


async def list_page(session: AsyncSession, *, after: str | None, most: int) -> Sequence[Relay]:
    """Return relays by id, those after the id given."""
    query = select(Relay).order_by(Relay.relay_id).limit(most)
    if after is not None:
        query = query.where(Relay.relay_id > after)
    return (await session.scalars(query)).all()


async def reachable(session: AsyncSession) -> Sequence[Relay]:
    """Return the relays whose address is known, in the order of their ids."""
    return (await session.scalars(select(Relay).where(Relay.url.is_not(None)).order_by(Relay.relay_id))).all()


async def addresses(session: AsyncSession) -> list[dict[str, str]]:
    """Return `[{"relay_id", "url"}]` of the relays whose address is known."""
    return [{"relay_id": relay.relay_id, "url": relay.url} for relay in await reachable(session) if relay.url]


async def note_seen(session: AsyncSession, relay_id: str, now_ms: int) -> None:
    """Take note that a relay was heard of."""
    await session.execute(update(Relay).where(Relay.relay_id == relay_id).values(last_seen_time=now_ms))


async def live_certificates(session: AsyncSession, relay_id: str, now_ms: int) -> Sequence[Certificate]:
    """Return the relay's certificates that have not expired."""
    query = select(Certificate).where(Certificate.subject_id == relay_id, Certificate.expire_time > now_ms)
    return (await session.scalars(query)).all()


async def remove(session: AsyncSession, relay_id: str) -> None:
    """Delete a relay with what is kept about it."""
    await session.execute(delete(Relay).where(Relay.relay_id == relay_id))
