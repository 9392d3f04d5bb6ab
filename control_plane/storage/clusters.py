"""Clusters: named groups of nodes of one workspace."""

from collections.abc import Iterable, Sequence

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import is_id, new_id
from control_plane.storage.records.nodes import Cluster, ClusterMember, Node


async def find(session: AsyncSession, workspace_id: str, address: str) -> Cluster | None:
    """Return the workspace's cluster with this id or name."""
    column = Cluster.cluster_id if is_id(address) else Cluster.cluster
    query = select(Cluster).where(Cluster.workspace_id == workspace_id, column == address)
    return (await session.scalars(query)).one_or_none()


def add(session: AsyncSession, workspace_id: str, name: str, now_ms: int) -> Cluster:
    """Create an empty cluster."""
    cluster = Cluster(cluster_id=new_id("cl"), workspace_id=workspace_id, cluster=name, creation_time=now_ms)
    session.add(cluster)
    return cluster


async def list_page(session: AsyncSession, workspace_id: str, *, after: str | None, most: int) -> Sequence[Cluster]:
    """Return clusters by name, those after the name given."""
    query = select(Cluster).where(Cluster.workspace_id == workspace_id).order_by(Cluster.cluster).limit(most)
    if after is not None:
        query = query.where(Cluster.cluster > after)
    return (await session.scalars(query)).all()


async def members(session: AsyncSession, cluster_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the names of the nodes in each cluster, sorted, by cluster id."""
    found: dict[str, list[str]] = {cluster_id: [] for cluster_id in cluster_ids}
    query = (
        select(ClusterMember.cluster_id, Node.node)
        .join(Node, Node.node_id == ClusterMember.node_id)
        .where(ClusterMember.cluster_id.in_(cluster_ids))
        .order_by(Node.node)
    )
    for cluster_id, node in (await session.execute(query)).all():
        found[cluster_id].append(node)
    return found


async def add_members(session: AsyncSession, cluster_id: str, node_ids: Iterable[str]) -> None:
    """Put nodes into the cluster; those already in it stay in it."""
    present = set(await member_ids(session, cluster_id))
    new = [node_id for node_id in dict.fromkeys(node_ids) if node_id not in present]
    session.add_all(ClusterMember(cluster_id=cluster_id, node_id=node_id) for node_id in new)


async def remove_members(session: AsyncSession, cluster_id: str, node_ids: Iterable[str]) -> None:
    """Take nodes out of the cluster; those not in it stay out of it."""
    await session.execute(
        delete(ClusterMember).where(ClusterMember.cluster_id == cluster_id, ClusterMember.node_id.in_(list(node_ids)))
    )


async def member_ids(session: AsyncSession, cluster_id: str) -> Sequence[str]:
    """Return the ids of the nodes in the cluster."""
    return (await session.scalars(select(ClusterMember.node_id).where(ClusterMember.cluster_id == cluster_id))).all()


async def remove(session: AsyncSession, cluster_id: str) -> None:
    """Delete a cluster; its nodes stay."""
    await session.execute(delete(Cluster).where(Cluster.cluster_id == cluster_id))
