"""Grants of secret scopes, and which scopes a node is granted by them."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import new_id
from control_plane.storage.records.nodes import ClusterMember, Node, NodeLabel
from control_plane.storage.records.secrets import SecretGrant

NODES_AT_ONCE = 1000
LABELS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Grantee:
    """To whom: exactly one of these is set; the empty selector means every node of the workspace."""

    node_id: str | None = None
    cluster_id: str | None = None
    selector: Mapping[str, str] | None = None

    def is_of(self, grant: SecretGrant) -> bool:
        """Tell whether the grant is to this grantee."""
        named = (self.node_id, self.cluster_id, None if self.selector is None else dict(self.selector))
        return (grant.node_id, grant.cluster_id, grant.selector) == named


@dataclass(slots=True)
class _Standing:
    """What grants look at in a node."""

    clusters: set[str] = field(default_factory=set)
    labels: dict[str, str] = field(default_factory=dict)


async def of_scope(session: AsyncSession, workspace_id: str, scope: str) -> Sequence[SecretGrant]:
    """Return the scope's grants, oldest first."""
    query = select(SecretGrant).where(SecretGrant.workspace_id == workspace_id, SecretGrant.scope == scope)
    return (await session.scalars(query.order_by(SecretGrant.creation_time, SecretGrant.grant_id))).all()


async def every_grant(session: AsyncSession) -> Sequence[SecretGrant]:
    """Return the grants of all workspaces."""
    return (await session.scalars(select(SecretGrant))).all()


async def members_of_granted_clusters(session: AsyncSession) -> dict[str, list[str]]:
    """Return the ids of the nodes of each cluster that a grant names, by its id."""
    named = select(SecretGrant.cluster_id).where(SecretGrant.cluster_id.is_not(None))
    query = select(ClusterMember.cluster_id, func.aggregate_strings(ClusterMember.node_id, " "))
    rows = await session.execute(query.where(ClusterMember.cluster_id.in_(named)).group_by(ClusterMember.cluster_id))
    return {cluster_id: ids.split() for cluster_id, ids in rows.all()}


async def holders(
    session: AsyncSession, labels: Collection[tuple[str, str]]
) -> dict[tuple[str, str, str], frozenset[str]]:
    """Return the ids of the nodes with these labels (label, value) by (workspace id, label, value)."""
    found: dict[tuple[str, str, str], frozenset[str]] = {}
    wanted, held = list(labels), (Node.workspace_id, NodeLabel.label, NodeLabel.label_value)
    query = select(*held, func.aggregate_strings(Node.node_id, " ")).join_from(NodeLabel, Node).group_by(*held)
    for start in range(0, len(wanted), LABELS_AT_ONCE):
        some = wanted[start : start + LABELS_AT_ONCE]
        alike = (and_(NodeLabel.label == label, NodeLabel.label_value == value) for label, value in some)
        for workspace_id, label, value, ids in (await session.execute(query.where(or_(*alike)))).all():
            found[workspace_id, label, value] = frozenset(ids.split())
    return found


def add(
    session: AsyncSession, workspace_id: str, scope: str, grantee: Grantee, *, now_ms: int, created_by: str
) -> SecretGrant:
    """Grant a scope."""
    chosen: dict[str, Any] = {"node_id": grantee.node_id, "cluster_id": grantee.cluster_id}
    if grantee.selector is not None:
        chosen["selector"] = dict(grantee.selector)
    grant = SecretGrant(
        grant_id=new_id("sg"),
        workspace_id=workspace_id,
        scope=scope,
        creation_time=now_ms,
        created_by=created_by,
        **chosen,
    )
    session.add(grant)
    return grant


async def granted_scopes(session: AsyncSession, workspace_of: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return which scopes of its workspace each node is granted; `workspace_of` has workspace ids by node id."""
    grants = await _of_workspaces(session, set(workspace_of.values()))
    standings = {node_id: _Standing() for node_id, workspace_id in workspace_of.items() if workspace_id in grants}
    await _look_up(session, standings)
    granted = dict.fromkeys(workspace_of, frozenset[str]())
    for node_id, standing in standings.items():
        scopes = (grant.scope for grant in grants[workspace_of[node_id]] if _covers(grant, node_id, standing))
        granted[node_id] = frozenset(scopes)
    return granted


async def _of_workspaces(session: AsyncSession, workspace_ids: Collection[str]) -> dict[str, list[SecretGrant]]:
    """Return the grants of these workspaces by workspace id; those that grant nothing are left out."""
    found: defaultdict[str, list[SecretGrant]] = defaultdict(list)
    for grant in (await session.scalars(select(SecretGrant).where(SecretGrant.workspace_id.in_(workspace_ids)))).all():
        found[grant.workspace_id].append(grant)
    return found


async def _look_up(session: AsyncSession, standings: dict[str, _Standing]) -> None:
    ids = list(standings)
    for start in range(0, len(ids), NODES_AT_ONCE):
        some = ids[start : start + NODES_AT_ONCE]
        members = select(ClusterMember.node_id, ClusterMember.cluster_id).where(ClusterMember.node_id.in_(some))
        for node_id, cluster_id in (await session.execute(members)).all():
            standings[node_id].clusters.add(cluster_id)
        labels = select(NodeLabel.node_id, NodeLabel.label, NodeLabel.label_value).where(NodeLabel.node_id.in_(some))
        for node_id, label, value in (await session.execute(labels)).all():
            standings[node_id].labels[label] = value


def _covers(grant: SecretGrant, node_id: str, standing: _Standing) -> bool:
    if grant.node_id is not None:
        return grant.node_id == node_id
    if grant.cluster_id is not None:
        return grant.cluster_id in standing.clusters
    return grant.selector is not None and grant.selector.items() <= standing.labels.items()
