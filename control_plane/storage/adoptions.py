"""Adoption: which relay and node has taken which trust document, and what it cut because of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import locks, revocations
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.trust import TrustAdoption, TrustCut

MOST_CUTS_A_CAUSE = 1000
OTHERS = "others"
MOST_COUNTED = 2**62
"""Where a sum stays; the columns hold 64 bits with a sign."""


@dataclass(frozen=True, slots=True)
class CutReport:
    """What one relay or node cut because of one revocation or lock (`cause`) of the `kind` and `id`."""

    cause: str
    kind: str
    id: str
    links: int = 0
    streams: int = 0
    exchanges: int = 0


class Behind(NamedTuple):
    """How many nodes are behind, and the ids and names of the first of them."""

    number: int
    first: Sequence[tuple[str, str]]


def summed(before: int, more: int) -> int:
    """Return a sum of what was reported, which whoever makes numbers up cannot make too large for its column."""
    return min(before + more, MOST_COUNTED)


async def relay_adopted(
    session: AsyncSession, relay_id: str, sequence: int, cut_milliseconds: int, now_ms: int
) -> None:
    """Note that a relay has a document in force."""
    await session.execute(update(Relay).where(Relay.relay_id == relay_id).values(trust_sequence=sequence))
    if await session.get(TrustAdoption, (relay_id, sequence)) is None:
        adoption = TrustAdoption(relay_id=relay_id, sequence=sequence, cut_milliseconds=cut_milliseconds, time=now_ms)
        session.add(adoption)


async def node_adopted(session: AsyncSession, node_id: str, sequence: int, now_ms: int) -> None:
    """Note that a node has a document in force."""
    adopted = {"trust_sequence": sequence, "trust_time": now_ms}
    await session.execute(update(Node).where(Node.node_id == node_id).values(adopted))


async def add_cuts(
    session: AsyncSession, adopter_id: str, sequence: int, cuts: Iterable[CutReport], now_ms: int
) -> int:
    """Count what was cut; beyond a thousand relays and nodes for one cause, the rest shares a row.

    Returns:
        How many rows are new.
    """
    new = 0
    for cut in cuts:
        row, made = await _row(session, adopter_id, sequence, cut, now_ms)
        new += made
        row.links = summed(row.links, cut.links)
        row.streams = summed(row.streams, cut.streams)
        row.exchanges = summed(row.exchanges, cut.exchanges)
    return new


async def sequence_of(session: AsyncSession, cut: CutReport) -> int | None:
    """Return the number of the revocation or lock that a cut names, None if there is none."""
    if cut.cause == "lock":
        return await locks.newest_sequence(session, cut.kind, cut.id)
    if cut.cause != "revocation":
        return None
    revocation = await revocations.find(session, cut.kind, cut.id)
    return revocation.sequence if revocation is not None else None


async def first_adoptions(session: AsyncSession, sequence: int) -> Sequence[TrustAdoption]:
    """Return for each relay the first document with this number, or a later one, that it has taken."""
    first = (
        select(TrustAdoption.relay_id, func.min(TrustAdoption.sequence).label("first"))
        .where(TrustAdoption.sequence >= sequence)
        .group_by(TrustAdoption.relay_id)
        .subquery()
    )
    query = select(TrustAdoption).join(
        first, (TrustAdoption.relay_id == first.c.relay_id) & (TrustAdoption.sequence == first.c.first)
    )
    return (await session.scalars(query)).all()


async def cuts_of(
    session: AsyncSession, cause: str, kind: str, name: str, *, since_sequence: int, until_sequence: int | None
) -> Sequence[TrustCut]:
    """Return what was cut because of one revocation or lock, from a document on, and before another."""
    query = select(TrustCut).where(
        TrustCut.cause == cause, TrustCut.kind == kind, TrustCut.id == name, TrustCut.sequence >= since_sequence
    )
    if until_sequence is not None:
        query = query.where(TrustCut.sequence < until_sequence)
    return (await session.scalars(query.order_by(TrustCut.adopter_id))).all()


async def nodes_behind(
    session: AsyncSession, sequence: int, states: Sequence[str], *, but: tuple[str, str] | None, most: int
) -> Behind:
    """Return the nodes in these states that have not reported a document with this number or a later one.

    Args:
        session: the transaction.
        sequence: the number.
        states: of the nodes to look at.
        but: `("node", id)` or `("workspace", id)` of nodes that are not asked for.
        most: how many are named.
    """
    late: list[ColumnElement[bool]] = [
        Node.state.in_(states),
        Node.trust_sequence.is_(None) | (Node.trust_sequence < sequence),
    ]
    if but is not None:
        column = Node.node_id if but[0] == "node" else Node.workspace_id
        late.append(column != but[1])
    number = (await session.scalars(select(func.count()).select_from(Node).where(*late))).one()
    first = select(Node.node_id, Node.node).where(*late).order_by(Node.node_id).limit(most)
    return Behind(number, [(node_id, node) for node_id, node in (await session.execute(first)).all()])


async def remove_old(session: AsyncSession, before_ms: int) -> None:
    """Forget adoptions and cuts from before this time."""
    await session.execute(delete(TrustAdoption).where(TrustAdoption.time < before_ms))
    await session.execute(delete(TrustCut).where(TrustCut.time < before_ms))


async def _row(
    session: AsyncSession, adopter_id: str, sequence: int, cut: CutReport, now_ms: int
) -> tuple[TrustCut, bool]:
    target = (cut.cause, cut.kind, cut.id)
    known = await session.get(TrustCut, (*target, adopter_id, sequence))
    if known is not None:
        return known, False
    await session.flush()
    counting = select(func.count()).where(TrustCut.cause == cut.cause, TrustCut.kind == cut.kind, TrustCut.id == cut.id)
    if (await session.scalars(counting)).one() >= MOST_CUTS_A_CAUSE:
        adopter_id = OTHERS
        known = await session.get(TrustCut, (*target, adopter_id, sequence))
        if known is not None:
            return known, False
    row = TrustCut(
        cause=cut.cause, kind=cut.kind, id=cut.id, adopter_id=adopter_id, sequence=sequence,
        links=0, streams=0, exchanges=0, time=now_ms,
    )  # fmt: skip
    session.add(row)
    return row, True
