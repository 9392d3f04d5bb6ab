"""What nodes were handed of their workspace's secrets, and what they say they hold."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Node
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


async def nodes_by_taken(session: AsyncSession) -> Sequence[tuple[str, Taken | None, str]]:
    """Return the confirmed nodes of each workspace together by what they have taken, None for those that never asked.

    Their ids are one text, with spaces between them: so a hundred thousand cost as little as a few.
    """
    stated = (Node.workspace_id, SecretBundle.accepts, SecretBundle.adopted_fingerprint)
    query = (
        select(*stated, func.aggregate_strings(Node.node_id, " "))
        .join_from(Node, Workspace, Workspace.workspace_id == Node.workspace_id)
        .outerjoin(SecretBundle, SecretBundle.node_id == Node.node_id)
        .where(Node.confirm_time.is_not(None), Workspace.delete_time.is_(None))
        .group_by(*stated)
    )
    rows = (await session.execute(query)).all()
    return [(row[0], _taken(row[1], row[2]), row[3]) for row in rows]


def _taken(accepts: bool | None, fingerprint: str | None) -> Taken | None:
    return None if accepts is None else Taken(accepts, fingerprint)
