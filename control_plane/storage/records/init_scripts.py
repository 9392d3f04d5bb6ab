"""The tables of init scripts: the scripts of workspaces and clusters, and how far each node's initialisation is."""

from typing import Any

from sqlalchemy import ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Cluster, Node
from control_plane.storage.records.record import Record


class InitScript(Record):
    """One script that new nodes run; `owner_id` is the workspace for a global script, the cluster for one of its own.

    `position` counts from 0 among the scripts of the same owner, without gaps. `secrets` names workspace secrets by
    variable or file, never their values.
    """

    __tablename__ = "init_scripts"
    __table_args__ = (UniqueConstraint("owner_id", "name"),)

    script_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id, ondelete="CASCADE"), index=True)
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey(Cluster.cluster_id, ondelete="CASCADE"), index=True)
    owner_id: Mapped[str]
    name: Mapped[str]
    position: Mapped[int]
    enabled: Mapped[bool]
    content: Mapped[bytes] = mapped_column(LargeBinary())
    sha256: Mapped[str]
    secrets: Mapped[dict[str, Any] | None]
    created_at: Mapped[int]
    created_by: Mapped[str] = mapped_column(String(512))
    updated_at: Mapped[int]
    updated_by: Mapped[str] = mapped_column(String(512))


class NodeInit(Record):
    """A node's latest initialisation. `run` numbers them from 1; `instance` is the state directory that it is for.

    `report` is what the node said last, its number in `report_sequence`; `requested_by` is the operator who asked for
    this run, None for that of the bootstrap.
    """

    __tablename__ = "node_inits"

    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), primary_key=True)
    run: Mapped[int]
    instance: Mapped[str | None]
    state: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str | None] = mapped_column(String(1024))
    report: Mapped[dict[str, Any] | None]
    report_sequence: Mapped[int]
    requested_by: Mapped[str | None] = mapped_column(String(512))
    request_time: Mapped[int]
    hand_time: Mapped[int | None]
    report_time: Mapped[int | None]
