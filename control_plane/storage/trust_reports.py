"""What machines report of the trust that they hold; one row a machine, written when it says something new."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

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


async def record(session: AsyncSession, reported: Reported, now_ms: int) -> None:
    """Keep a report; one that says what the last one said changes nothing."""
    known = await session.get(TrustReport, reported.subject_id)
    if known is None:
        known = TrustReport(subject_id=reported.subject_id, kind=reported.kind)
        session.add(known)
    elif (known.trust_sequence, known.root, known.token_key) == (
        reported.trust_sequence,
        reported.root,
        reported.token_key,
    ):
        return
    known.trust_sequence = reported.trust_sequence
    known.root = reported.root
    known.token_key = reported.token_key
    known.report_time = now_ms


async def all_of(session: AsyncSession) -> dict[str, TrustReport]:
    """Return every report by the id of its machine."""
    return {row.subject_id: row for row in (await session.scalars(select(TrustReport))).all()}


async def remove_gone(session: AsyncSession) -> None:
    """Forget reports of machines that are no more."""
    nodes, relays = select(Node.node_id), select(Relay.relay_id)
    gone = delete(TrustReport).where(TrustReport.subject_id.not_in(nodes), TrustReport.subject_id.not_in(relays))
    await session.execute(gone)


async def live_nodes(session: AsyncSession, since_ms: int) -> Sequence[Node]:
    """Return the confirmed nodes that were seen since this time, or have come since."""
    rows = (await session.scalars(select(Node).where(Node.confirm_time.is_not(None)))).all()
    return [node for node in rows if _latest((node.last_seen_time, node.confirm_time)) >= since_ms]


async def live_relays(session: AsyncSession, since_ms: int) -> Sequence[Relay]:
    """Return the relays that were heard of since this time, or have come since."""
    rows = (await session.scalars(select(Relay))).all()
    return [relay for relay in rows if _latest((relay.last_seen_time, relay.creation_time)) >= since_ms]


def _latest(times: Collection[int | None]) -> int:
    return max((time for time in times if time is not None), default=0)
