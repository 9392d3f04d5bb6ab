"""Audit events: appending them inside the transaction that they tell of, and listing them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.errors import StorageError
from control_plane.storage.records.audit import AuditEvent

LONGEST_TEXT = 512
REMOVED_AT_ONCE = 1000
RENEWALS = ("node.renew", "node.late_renewal", "relay.renew", "relay.late_renewal")


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks: the SPIFFE id or operator id, with where from and under which request id."""

    name: str
    request_id: str | None = None
    source_address: str | None = None


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which events to list; None means any. Times are milliseconds, `since` included, `until` not."""

    workspace_id: str | None = None
    action: str | None = None
    actor: str | None = None
    outcome: str | None = None
    since_time: int | None = None
    until_time: int | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """What to record: the action (`node.delete`), what came of it, and on what."""

    action: str
    outcome: str = "ok"
    resource: str | None = None
    workspace_id: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


def append(session: AsyncSession, now: float, actor: Actor, happening: Happening) -> None:
    """Add an event to the transaction; it is kept exactly if the transaction is."""
    session.add(
        AuditEvent(
            time=int(now * 1000),
            actor=actor.name[:LONGEST_TEXT],
            action=happening.action,
            outcome=happening.outcome,
            resource=happening.resource[:LONGEST_TEXT] if happening.resource else None,
            workspace_id=happening.workspace_id,
            request_id=actor.request_id,
            source_address=actor.source_address,
            details=dict(happening.details),
        )
    )


async def renewals_since(session: AsyncSession, since_ms: int) -> Sequence[AuditEvent]:
    """Return the renewals of certificates since this time, in their order; the details say what was renewed by what."""
    query = select(AuditEvent).where(
        AuditEvent.time >= since_ms, AuditEvent.action.in_(RENEWALS), AuditEvent.outcome == "ok"
    )
    return (await session.scalars(query.order_by(AuditEvent.event_id))).all()


async def last_time(session: AsyncSession) -> int | None:
    """Return the time of the event that was recorded last; None where there is none."""
    return await session.scalar(select(AuditEvent.time).order_by(AuditEvent.event_id.desc()).limit(1))


async def newest_time(session: AsyncSession, *, until_ms: int) -> int:
    """Return the time of the newest event that is not later than this; 0 where there is none."""
    query = select(func.max(AuditEvent.time)).where(AuditEvent.time <= until_ms)
    return (await session.scalar(query)) or 0


async def oldest_time(session: AsyncSession) -> int | None:
    """Return the time of the oldest event; None where there is none."""
    return await session.scalar(select(func.min(AuditEvent.time)))


async def remove_before(session: AsyncSession, before_ms: int) -> int:
    """Forget events that are older than this time, `REMOVED_AT_ONCE` at most; returns how many, 0 if none is left.

    Raises:
        StorageError: the database refuses it, by whose own clock one of them is younger than 30 days.
    """
    old = select(AuditEvent.event_id).where(AuditEvent.time < before_ms).order_by(AuditEvent.time)
    found = (await session.scalars(old.limit(REMOVED_AT_ONCE))).all()
    try:
        await session.execute(delete(AuditEvent).where(AuditEvent.event_id.in_(found)))
    except DBAPIError as error:
        if "append-only" not in str(error.orig):
            raise
        raise StorageError(
            "the database refuses to forget audit events: compare its clock with this machine's"
        ) from None
    return len(found)


async def list_events(
    session: AsyncSession, wanted: AuditFilter, *, before: int | None, most: int
) -> Sequence[AuditEvent]:
    """Return events, newest first, that come before the event with the id `before`."""
    query = select(AuditEvent).order_by(AuditEvent.event_id.desc()).limit(most)
    if before is not None:
        query = query.where(AuditEvent.event_id < before)
    for column in ("workspace_id", "action", "actor", "outcome"):
        value = getattr(wanted, column)
        if value is not None:
            query = query.where(getattr(AuditEvent, column) == value)
    if wanted.since_time is not None:
        query = query.where(AuditEvent.time >= wanted.since_time)
    if wanted.until_time is not None:
        query = query.where(AuditEvent.time < wanted.until_time)
    return (await session.scalars(query)).all()
