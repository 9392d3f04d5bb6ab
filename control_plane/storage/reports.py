"""Reports of relays: taken once and summed by the hour; alarms and cuts go to the audit, adoption to the records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import adoptions, trust_reports
from control_plane.storage.adoptions import CutReport, summed
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.reports import Reporter, ReportTotal

HOUR_MS = 3_600_000
MOST_REPORTERS = 64
MOST_OUTCOMES_AN_HOUR = 64
MOST_AUDITED = 50
OTHER = "other"
TYPES = frozenset(
    {"admission", "refusal", "cut", "trust", "clone_alarm", "link_attached", "link_detached", "link_refused"}
)
AUDITED = frozenset({"cut", "clone_alarm"})
STATED = ("count", "node_id", "token_id", "certificate", "subject", "reason", "message")


@dataclass(frozen=True, slots=True)
class ReportItem:
    """One thing that a relay reported."""

    type: str
    time: int
    outcome: str = ""
    count: int = 1
    workspace_id: str | None = None
    node_id: str | None = None
    token_id: str | None = None
    certificate: str | None = None
    subject: str | None = None
    sequence: int | None = None
    reason: str | None = None
    message: str | None = None
    cut_milliseconds: int = 0
    cuts: Sequence[CutReport] = ()
    root: str | None = None
    body_sha256: Sequence[str] = ()
    shell: Mapping[str, Any] | None = None
    file: Mapping[str, Any] | None = None


def known_type(name: str) -> str:
    """Return the type of an item if it is one of those we know."""
    return name if name in TYPES else OTHER


def records_in(items: Sequence[ReportItem]) -> int:
    """Return how many records a report makes that are kept for long: of the audit, of adoptions and of cuts."""
    audited = sum(item.type in AUDITED for item in items)
    return min(audited, MOST_AUDITED) + sum(1 + len(item.cuts) for item in items if item.type == "trust")


async def take(
    session: AsyncSession,
    relay_id: str,
    reporter: str,
    sequence: int,
    items: Sequence[ReportItem],
    *,
    dropped: int,
    actor: Actor,
    now: float,
) -> bool:
    """Take a report in, unless its sequence was taken before; returns whether it was new."""
    now_ms = int(now * 1000)
    if not await _note_sequence(session, relay_id, reporter, sequence, dropped, now_ms):
        return False
    await session.execute(update(Relay).where(Relay.relay_id == relay_id).values(last_seen_time=now_ms))
    await _sum(session, relay_id, items, now_ms)
    await _adopt(session, relay_id, items, now_ms)
    for item in [item for item in items if item.type in AUDITED][:MOST_AUDITED]:
        append(session, now, actor, _alarm(relay_id, item))
    return True


async def remove_old(session: AsyncSession, before_ms: int) -> None:
    """Forget sums and reporters older than this time."""
    await session.execute(delete(ReportTotal).where(ReportTotal.hour < before_ms))
    await session.execute(delete(Reporter).where(Reporter.time < before_ms))


async def _note_sequence(
    session: AsyncSession, relay_id: str, reporter: str, sequence: int, dropped: int, now_ms: int
) -> bool:
    """Write down that the report has come; return whether it was new."""
    known = await session.get(Reporter, (relay_id, reporter))
    if known is not None:
        if sequence <= known.sequence:
            return False
        known.sequence = sequence
        known.dropped = summed(known.dropped, dropped)
        known.time = now_ms
        return True
    await _make_room(session, relay_id)
    session.add(Reporter(relay_id=relay_id, reporter=reporter, sequence=sequence, dropped=dropped, time=now_ms))
    return True


async def _make_room(session: AsyncSession, relay_id: str) -> None:
    query = select(Reporter).where(Reporter.relay_id == relay_id).order_by(Reporter.time.desc())
    for old in (await session.scalars(query.offset(MOST_REPORTERS - 1))).all():
        await session.delete(old)


async def _sum(session: AsyncSession, relay_id: str, items: Sequence[ReportItem], now_ms: int) -> None:
    hour = now_ms - now_ms % HOUR_MS
    sums: dict[tuple[str, str], int] = {}
    for item in items:
        key = (known_type(item.type), item.outcome)
        sums[key] = sums.get(key, 0) + item.count
    for (kind, outcome), count in sums.items():
        row = await session.get(ReportTotal, (relay_id, hour, kind, outcome))
        if row is None:
            row = await _row(session, relay_id, hour, kind, outcome)
        row.total = summed(row.total, count)


async def _row(session: AsyncSession, relay_id: str, hour: int, kind: str, outcome: str) -> ReportTotal:
    """Return a new row, or the row for everything else once the hour has too many."""
    await session.flush()
    counting = select(func.count()).where(ReportTotal.relay_id == relay_id, ReportTotal.hour == hour)
    if (await session.scalars(counting)).one() >= MOST_OUTCOMES_AN_HOUR:
        kind = outcome = OTHER
        known = await session.get(ReportTotal, (relay_id, hour, kind, outcome))
        if known is not None:
            return known
    row = ReportTotal(relay_id=relay_id, hour=hour, type=kind, outcome=outcome, total=0)
    session.add(row)
    return row


async def _adopt(session: AsyncSession, relay_id: str, items: Sequence[ReportItem], now_ms: int) -> None:
    """Record which trust document the relay has taken up, and what was cut for it; of nodes it is not believed.

    A relay that keeps a document from its nodes could else have it look as if they had taken it.
    """
    for item in items:
        if item.type != "trust" or item.sequence is None or item.node_id is not None:
            continue
        await adoptions.relay_adopted(session, relay_id, item.sequence, item.cut_milliseconds, now_ms)
        # What names nothing that was revoked or locked is not kept: ids that a relay makes up are without end.
        known = [cut for cut in item.cuts if await adoptions.sequence_of(session, cut) is not None]
        await adoptions.add_cuts(session, relay_id, item.sequence, known, now_ms)
        reported = trust_reports.Reported(trust_reports.RELAY, relay_id, item.sequence, item.root)
        await trust_reports.record(session, reported, now_ms)


def _alarm(relay_id: str, item: ReportItem) -> Happening:
    stated = {name: getattr(item, name) for name in STATED}
    details = {"relay_id": relay_id, "time": item.time} | {k: v for k, v in stated.items() if v is not None}
    return Happening(
        f"relay.{item.type}",
        item.outcome or "reported",
        resource=item.node_id,
        workspace_id=item.workspace_id,
        details=details,
    )
