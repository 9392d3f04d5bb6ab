"""What nodes were handed of their workspace's secrets, and what they say they hold."""

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.secrets import SecretBundle

NODES_AT_ONCE = 1000


class Taken(NamedTuple):
    """Whether a node's owner takes secrets, and the fingerprint of the last bundle that the node says it took."""

    accepts: bool
    adopted_fingerprint: str | None


async def find(session: AsyncSession, node_id: str) -> SecretBundle | None:
    """Return the node's bundle, or None if it never asked for one."""
    return await session.get(SecretBundle, node_id)


async def find_or_add(session: AsyncSession, node_id: str) -> SecretBundle:
    """Return the node's bundle, one that nothing was handed with if there is none."""
    known = await find(session, node_id)
    if known is not None:
        return known
    bundle = SecretBundle(node_id=node_id, sequence=0, fingerprint="", contents={}, held={}, accepts=True)
    session.add(bundle)
    return bundle


async def of_nodes(session: AsyncSession, node_ids: Collection[str]) -> dict[str, SecretBundle]:
    """Return the bundles of these nodes by node id; those that never asked are left out."""
    found: dict[str, SecretBundle] = {}
    ids = list(node_ids)
    for start in range(0, len(ids), NODES_AT_ONCE):
        query = select(SecretBundle).where(SecretBundle.node_id.in_(ids[start : start + NODES_AT_ONCE]))
        found |= {bundle.node_id: bundle for bundle in (await session.scalars(query)).all()}
    return found


async def taken_by(session: AsyncSession, node_ids: Collection[str]) -> dict[str, Taken]:
    """Return what these nodes, some hundreds at most, have taken, by node id; those that never asked are left out."""
    columns = (SecretBundle.node_id, SecretBundle.accepts, SecretBundle.adopted_fingerprint)
    rows = await session.execute(select(*columns).where(SecretBundle.node_id.in_(node_ids)))
    return {node_id: Taken(accepts, fingerprint) for node_id, accepts, fingerprint in rows.all()}
