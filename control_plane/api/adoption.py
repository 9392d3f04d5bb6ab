"""Adoption as the API shows it: who has taken a revocation or lock, when, what was cut, and who has not said so yet."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.identity.trust_followers import TrustFollowers
from control_plane.storage import adoptions
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.trust import TrustAdoption, TrustCut

MOST_NAMED = 100
LIVE_STATES = ("online", "degraded")
COUNTED = ("links", "streams", "exchanges")


@dataclass(frozen=True, slots=True)
class Ended:
    """A revocation or lock, by the number of the first trust document that has it, and the first that does not."""

    cause: str
    kind: str
    id: str
    sequence: int
    creation_time: int
    until_sequence: int | None = None


async def adoption_of(session: AsyncSession, ended: Ended, followers: TrustFollowers) -> dict[str, Any]:
    """Return the member `adoption`: relays and nodes that took it, those that are waited for, and what was cut.

    Nodes are waited for while they are online; a node that is itself revoked is cut off by the relays, and not asked.
    """
    cuts = {
        row.adopter_id: row
        for row in await adoptions.cuts_of(
            session,
            ended.cause,
            ended.kind,
            ended.id,
            since_sequence=ended.sequence,
            until_sequence=ended.until_sequence,
        )
    }
    relays = (await session.scalars(select(Relay).order_by(Relay.relay_id))).all()
    adopted = {row.relay_id: row for row in await adoptions.first_adoptions(session, ended.sequence)}
    but = (ended.kind, ended.id) if ended.cause == "revocation" and ended.kind in ("node", "workspace") else None
    behind = await adoptions.nodes_behind(session, ended.sequence, LIVE_STATES, but=but, most=MOST_NAMED)
    waiting = [relay for relay in relays if relay.relay_id not in adopted]
    return {
        "complete": not waiting and not behind.number,
        "relays": [
            _relay(relay, adopted[relay.relay_id], cuts.get(relay.relay_id), ended)
            for relay in relays
            if relay.relay_id in adopted
        ],
        "nodes": await _nodes(session, cuts, {relay.relay_id for relay in relays}),
        "waiting_relays": [_waiting(relay, followers) for relay in waiting[:MOST_NAMED]],
        "waiting_relay_count": len(waiting),
        "waiting_nodes": [{"node_id": node_id, "node": node} for node_id, node in behind.first],
        "waiting_node_count": behind.number,
    }


def _relay(relay: Relay, adoption: TrustAdoption, cut: TrustCut | None, ended: Ended) -> dict[str, Any]:
    return {
        "relay_id": relay.relay_id,
        "name": relay.relay,
        "sequence": adoption.sequence,
        "time": adoption.time,
        "after_milliseconds": max(0, adoption.time - ended.creation_time),
        "cut_milliseconds": adoption.cut_milliseconds,
        **_counts(cut),
    }


def _waiting(relay: Relay, followers: TrustFollowers) -> dict[str, Any]:
    view = {
        "relay_id": relay.relay_id,
        "name": relay.relay,
        "following": relay.relay_id in followers,
        "sequence": relay.trust_sequence,
        "last_seen_time": relay.last_seen_time,
    }
    return {key: value for key, value in view.items() if value is not None}


async def _nodes(session: AsyncSession, cuts: dict[str, TrustCut], relay_ids: set[str]) -> list[dict[str, Any]]:
    """Return the nodes that cut something, named as far as they still exist."""
    rows = [row for adopter_id, row in cuts.items() if adopter_id not in relay_ids][:MOST_NAMED]
    query = select(Node.node_id, Node.node).where(Node.node_id.in_([row.adopter_id for row in rows]))
    names = {row.node_id: row.node for row in await session.execute(query)}
    return [
        {"node_id": row.adopter_id, "node": names.get(row.adopter_id, row.adopter_id), "time": row.time, **_counts(row)}
        for row in rows
    ]


def _counts(cut: TrustCut | None) -> dict[str, int]:
    return {name: getattr(cut, name) if cut is not None else 0 for name in COUNTED}
