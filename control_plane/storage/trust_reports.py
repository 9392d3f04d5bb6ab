"""What machines report of the trust that they hold; one row a machine, written when it says something new."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.trust import TrustReport

NODE = "node"
RELAY = "relay"


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


class LiveMachine(NamedTuple):
    """A machine, and what it reported last; None for what it never said."""

    subject_id: str
    name: str
    trust_sequence: int | None
    root: str | None
    token_key: str | None


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


async def remove_gone(session: AsyncSession) -> None:
    """Forget reports of machines that are no more."""
    nodes, relays = select(Node.node_id), select(Relay.relay_id)
    gone = delete(TrustReport).where(TrustReport.subject_id.not_in(nodes), TrustReport.subject_id.not_in(relays))
    await session.execute(gone)


async def live_nodes(session: AsyncSession, since_ms: int) -> Sequence[LiveMachine]:
    """Return the confirmed nodes that were seen since this time, or have come since."""
    query = _with_reports(Node.node_id, Node.node).where(
        Node.confirm_time.is_not(None), (Node.last_seen_time >= since_ms) | (Node.confirm_time >= since_ms)
    )
    return [LiveMachine(*row) for row in (await session.execute(query)).all()]


async def live_relays(session: AsyncSession, since_ms: int) -> Sequence[LiveMachine]:
    """Return the relays that were heard of since this time, or have come since."""
    query = _with_reports(Relay.relay_id, Relay.relay).where(
        (Relay.last_seen_time >= since_ms) | (Relay.creation_time >= since_ms)
    )
    return [LiveMachine(*row) for row in (await session.execute(query)).all()]


def _with_reports(
    subject_id: InstrumentedAttribute[str], name: InstrumentedAttribute[str]
) -> Select[str, str, int, str | None, str | None]:
    """Select machines with their reports; not with the rest of their rows, where nodes' health is."""
    stated = (TrustReport.trust_sequence, TrustReport.root, TrustReport.token_key)
    return select(subject_id, name, *stated).outerjoin(TrustReport, TrustReport.subject_id == subject_id)


def _said(reported: Reported) -> tuple[int, str | None, str | None]:
    return reported.trust_sequence, reported.root, reported.token_key


def _row(reported: Reported, now_ms: int) -> dict[str, Any]:
    return asdict(reported) | {"report_time": now_ms}
