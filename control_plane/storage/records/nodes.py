"""The nodes of a workspace, their labels, the clusters they are in, and what checks of their health found."""

from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.record import COUNTER, Record


class Node(Record):
    """One enrolled machine; `attested_as` is what its evidence said it is, so that it is known again.

    `machine_resource` is what its platform calls it in full, `attest_time` when it last proved itself, and
    `join_policy_id` the policy that it was admitted by.
    """

    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("workspace_id", "node"), UniqueConstraint("workspace_id", "attested_as"))

    node_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id))
    node: Mapped[str]
    attested_as: Mapped[str | None] = mapped_column(String(1024))
    machine_resource: Mapped[str | None] = mapped_column(String(2048), index=True)
    attest_time: Mapped[int | None]
    join_policy_id: Mapped[str | None]
    sealing_key: Mapped[str]
    agent_version: Mapped[str]
    host: Mapped[str | None]
    state: Mapped[str]
    state_reason: Mapped[str | None] = mapped_column(String(1024))
    state_time: Mapped[int]
    health: Mapped[dict[str, Any] | None]
    health_time: Mapped[int | None]
    creation_time: Mapped[int]
    confirm_time: Mapped[int | None]
    last_seen_time: Mapped[int | None]
    relay_id: Mapped[str | None]
    trust_sequence: Mapped[int | None]
    trust_time: Mapped[int | None]


class NodeLabel(Record):
    """One label of a node."""

    __tablename__ = "node_labels"
    __table_args__ = (Index(None, "label", "label_value"),)

    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    label_value: Mapped[str]


class Cluster(Record):
    """A named group of nodes of one workspace."""

    __tablename__ = "clusters"
    __table_args__ = (UniqueConstraint("workspace_id", "cluster"),)

    cluster_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id))
    cluster: Mapped[str]
    creation_time: Mapped[int]


class ClusterMember(Record):
    """A node's membership in a cluster."""

    __tablename__ = "cluster_members"

    cluster_id: Mapped[str] = mapped_column(ForeignKey(Cluster.cluster_id, ondelete="CASCADE"), primary_key=True)
    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), primary_key=True, index=True)


class HealthObservation(Record):
    """What one health check of a node found; kept for a bounded time."""

    __tablename__ = "health_observations"
    __table_args__ = (Index(None, "node_id", "observation_id"),)

    observation_id: Mapped[int] = mapped_column(COUNTER, primary_key=True, autoincrement=True)
    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"))
    time: Mapped[int] = mapped_column(index=True)
    state: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str | None] = mapped_column(String(1024))
    rtt_milliseconds: Mapped[int | None]
