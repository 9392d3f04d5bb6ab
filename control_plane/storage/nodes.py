"""Nodes: creating, finding by id or name, listing with filters, labels, state, deleting."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import defer

from control_plane.names import is_id
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Cluster, ClusterMember, Node, NodeLabel

BATCH = 2_000


@dataclass(frozen=True, slots=True)
class NodeFilter:
    """Which nodes: None and empty mean any."""

    state: str | None = None
    cluster: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeExtras:
    """What belongs to a node and is kept beside it."""

    labels: dict[str, str] = field(default_factory=dict)
    clusters: list[str] = field(default_factory=list)


async def find(session: AsyncSession, workspace_id: str, address: str) -> Node | None:
    """Return the workspace's node with this id or name."""
    column = Node.node_id if is_id(address) else Node.node
    return (
        await session.scalars(select(Node).where(Node.workspace_id == workspace_id, column == address))
    ).one_or_none()


async def find_attested(session: AsyncSession, workspace_id: str, attested_as: str) -> Node | None:
    """Return the node that this evidence was accepted for before."""
    query = select(Node).where(Node.workspace_id == workspace_id, Node.attested_as == attested_as)
    return (await session.scalars(query)).one_or_none()


async def find_by_resource(session: AsyncSession, machine_resource: str) -> Sequence[Node]:
    """Return the nodes, of whatever workspace, whose machine was seen under this resource id."""
    return (await session.scalars(select(Node).where(Node.machine_resource == machine_resource))).all()


async def taken_names(session: AsyncSession, workspace_id: str, names: Sequence[str]) -> set[str]:
    """Return which of the names nodes of the workspace have."""
    query = select(Node.node).where(Node.workspace_id == workspace_id, Node.node.in_(names))
    return set((await session.scalars(query)).all())


async def select_nodes(
    session: AsyncSession, workspace_id: str, wanted: NodeFilter, *, after: str | None = None, most: int
) -> Sequence[Node]:
    """Return nodes by name, those after the name given, that match every part of the filter; without their health."""
    query = select(Node).where(Node.workspace_id == workspace_id).order_by(Node.node).limit(most)
    query = query.options(defer(Node.health, raiseload=True))
    if after is not None:
        query = query.where(Node.node > after)
    return (await session.scalars(_filtered(query, workspace_id, wanted))).all()


async def all_ids(session: AsyncSession) -> str:
    """Return the ids of all nodes, but for those of workspaces that are being removed, with spaces between them.

    As one text they cost a fiftieth of as many rows, and as long as no workspace is being removed, an index has them
    all.
    """
    removed = select(Workspace.workspace_id).where(Workspace.delete_time.is_not(None))
    query = select(func.aggregate_strings(Node.node_id, " "))
    if ids := (await session.scalars(removed)).all():
        query = query.where(Node.workspace_id.not_in(ids))
    return await session.scalar(query) or ""


async def places(session: AsyncSession, node_ids: Sequence[str]) -> Sequence[tuple[Workspace, Node]]:
    """Return these nodes with their workspaces, without what they said of their health, which may be large."""
    query = select(Workspace, Node).join(Node, Node.workspace_id == Workspace.workspace_id)
    query = query.where(Node.node_id.in_(node_ids), Workspace.delete_time.is_(None))
    rows = await session.execute(query.options(defer(Node.health, raiseload=True)))
    return [(workspace, node) for workspace, node in rows.all()]


async def extras(session: AsyncSession, node_ids: Sequence[str]) -> dict[str, NodeExtras]:
    """Return the labels and cluster names of the nodes, by node id."""
    found = {node_id: NodeExtras() for node_id in node_ids}
    labels = select(NodeLabel).where(NodeLabel.node_id.in_(node_ids))
    for label in (await session.scalars(labels)).all():
        found[label.node_id].labels[label.label] = label.label_value
    memberships = (
        select(ClusterMember.node_id, Cluster.cluster)
        .join(Cluster, Cluster.cluster_id == ClusterMember.cluster_id)
        .where(ClusterMember.node_id.in_(node_ids))
        .order_by(Cluster.cluster)
    )
    for node_id, cluster in (await session.execute(memberships)).all():
        found[node_id].clusters.append(cluster)
    return found


async def update_all(session: AsyncSession, changes: Mapping[str, Mapping[str, object]]) -> None:
    """Change columns, by name, of each of these nodes: one statement for all of which the same columns change."""
    alike: defaultdict[frozenset[str], list[dict[str, object]]] = defaultdict(list)
    for node_id, columns in changes.items():
        alike[frozenset(columns)].append({"node_id": node_id, **columns})
    for rows in alike.values():
        await session.execute(update(Node), rows)


def add_labels(session: AsyncSession, node_id: str, labels: Mapping[str, str]) -> None:
    """Give a new node its labels."""
    session.add_all(NodeLabel(node_id=node_id, label=key, label_value=value) for key, value in labels.items())


async def remove(session: AsyncSession, node_id: str) -> None:
    """Delete a node with its labels, memberships and observations; its commands stay as history."""
    await session.execute(delete(Node).where(Node.node_id == node_id))


async def unconfirmed(session: AsyncSession, before_ms: int) -> Sequence[str]:
    """Return the ids of nodes that came before this time and never proved to hold their key, `BATCH` at most."""
    query = select(Node.node_id).where(Node.confirm_time.is_(None), Node.creation_time < before_ms)
    return (await session.scalars(query.limit(BATCH))).all()


async def remove_unconfirmed(session: AsyncSession, node_ids: Sequence[str]) -> None:
    """Forget those of these nodes that have not proved it meanwhile."""
    await session.execute(delete(Node).where(Node.node_id.in_(node_ids), Node.confirm_time.is_(None)))


def _filtered(query: Select[Node], workspace_id: str, wanted: NodeFilter) -> Select[Node]:
    if wanted.state is not None:
        query = query.where(Node.state == wanted.state)
    if wanted.cluster is not None:
        column = Cluster.cluster_id if is_id(wanted.cluster) else Cluster.cluster
        members = (
            select(ClusterMember.node_id)
            .join(Cluster, Cluster.cluster_id == ClusterMember.cluster_id)
            .where(Cluster.workspace_id == workspace_id, column == wanted.cluster)
        )
        query = query.where(Node.node_id.in_(members))
    for key, value in wanted.labels.items():
        holders = select(NodeLabel.node_id).where(NodeLabel.label == key, NodeLabel.label_value == value)
        query = query.where(Node.node_id.in_(holders))
    return query
