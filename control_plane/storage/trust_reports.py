"""What machines report of the trust that they hold; one row a machine, written when it says something new."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, delete, func, insert, literal_column, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.trust import Revocation, TrustReport

NODE = "node"
RELAY = "relay"
MOST_HELD = 1000
BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Reported:
    """One report: the trust document in force, and what the machine stands on itself, None where it does not say.

    `root` is the SHA-256 of the root of its certificate, `token_key` the id of the key of a node's listen token.
    """

    kind: str
    subject_id: str
    trust_sequence: int
    root: str | None = None
    token_key: str | None = None


class Held(NamedTuple):
    """What machines hold alike, by what they reported last: None, or 0 for the number, is what they never said."""

    trust_sequence: int
    root: str | None
    token_key: str | None


class Machine(NamedTuple):
    """A machine, and what it holds."""

    subject_id: str
    name: str
    held: Held


async def record(session: AsyncSession, reported: Reported, now_ms: int) -> None:
    """Keep a report; one that says what the last one said changes nothing."""
    await record_all(session, [(reported, now_ms)])


async def record_all(session: AsyncSession, reports: Sequence[tuple[Reported, int]]) -> None:
    """Keep reports of different machines, each with its time (milliseconds), by as few statements for many as for one.

    One that says what the last one said changes nothing.
    """
    stated = (TrustReport.subject_id, TrustReport.trust_sequence, TrustReport.root, TrustReport.token_key)
    ids = [reported.subject_id for reported, _ in reports]
    rows = (await session.execute(select(*stated).where(TrustReport.subject_id.in_(ids)))).all()
    known = {row.subject_id: (row.trust_sequence, row.root, row.token_key) for row in rows}
    new = [report for report in reports if report[0].subject_id not in known]
    changed = [report for report in reports if known.get(report[0].subject_id, _said(report[0])) != _said(report[0])]
    if new:
        await session.execute(insert(TrustReport), [_row(*report) for report in new])
    if changed:
        await session.execute(update(TrustReport), [_row(*report) for report in changed])


async def of_gone(session: AsyncSession) -> Sequence[str]:
    """Return the ids of machines that have reported and are no more, `BATCH` at most; none comes back."""
    nodes, relays = select(Node.node_id), select(Relay.relay_id)
    query = select(TrustReport.subject_id).where(
        TrustReport.subject_id.not_in(nodes), TrustReport.subject_id.not_in(relays)
    )
    return (await session.scalars(query.limit(BATCH))).all()


async def remove(session: AsyncSession, subject_ids: Sequence[str]) -> None:
    """Forget the reports of these machines."""
    await session.execute(delete(TrustReport).where(TrustReport.subject_id.in_(subject_ids)))


async def count_live(session: AsyncSession, kind: str, since_ms: int) -> list[tuple[Held, int]]:
    """Return what the machines of this kind hold that were heard of since this time, or have come since, and how many.

    Of nodes these are the confirmed ones that are not revoked, by themselves or with their workspace. The database
    counts: a row for each of a hundred thousand machines would hold up everybody.
    """
    query = _of_live(kind, since_ms, *_HELD, func.count()).group_by(*_HELD)
    return [(Held(*row[:3]), row[3]) for row in (await session.execute(query)).all()]


async def first_live(session: AsyncSession, kind: str, since_ms: int, held: Sequence[Held], most: int) -> list[Machine]:
    """Return the first of these machines, by their ids, that hold one of these: of `MOST_HELD` at most."""
    subject_id, name = _COLUMNS[kind]
    texts = [func.coalesce(column, "") for column in _HELD[1:]]  # NULL would be equal to nothing
    alike = tuple_(_HELD[0], *texts).in_([(one[0], one[1] or "", one[2] or "") for one in held[:MOST_HELD]])
    query = _of_live(kind, since_ms, subject_id, name, *_HELD).where(alike).order_by(subject_id).limit(most)
    return [Machine(row[0], row[1], Held(*row[2:])) for row in (await session.execute(query)).all()]


_HELD = (func.coalesce(TrustReport.trust_sequence, literal_column("0")), TrustReport.root, TrustReport.token_key)
_COLUMNS = {NODE: (Node.node_id, Node.node), RELAY: (Relay.relay_id, Relay.relay)}


def _of_live(kind: str, since_ms: int, *columns: Any) -> Select[Any]:
    """Select of machines with their reports; not the rest of their rows, where nodes' health is."""
    subject_id, _ = _COLUMNS[kind]
    lived: ColumnElement[bool] = (Relay.last_seen_time >= since_ms) | (Relay.creation_time >= since_ms)
    if kind == NODE:
        seen = (Node.last_seen_time >= since_ms) | (Node.confirm_time >= since_ms)
        lived = and_(Node.confirm_time.is_not(None), seen, *_not_revoked())
    query = select(*columns).outerjoin_from(subject_id.class_, TrustReport, TrustReport.subject_id == subject_id)
    return query.where(lived)


def _not_revoked() -> tuple[ColumnElement[bool], ...]:
    """Whoever is revoked stands on nothing any more, and is let nowhere where it could follow."""
    revoked = {kind: select(Revocation.id).where(Revocation.kind == kind) for kind in ("node", "workspace")}
    return Node.node_id.not_in(revoked["node"]), Node.workspace_id.not_in(revoked["workspace"])


def _said(reported: Reported) -> tuple[int, str | None, str | None]:
    return reported.trust_sequence, reported.root, reported.token_key


def _row(reported: Reported, now_ms: int) -> dict[str, Any]:
    return asdict(reported) | {"report_time": now_ms}
