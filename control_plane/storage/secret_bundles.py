"""What nodes were handed of their workspace's secrets, and what they say they hold."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.secrets import SecretBundle

NODES_AT_ONCE = 1000


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
