"""The tables of workspace secrets: scopes, sealed values, wrapped data keys, grants, and what nodes were handed.

No value is in any of them but as the ciphertext of `control_plane.secrets.envelope`.
"""

from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Cluster, Node
from control_plane.storage.records.record import Record


class SecretScope(Record):
    """A named group of secrets of one workspace, and what grants are about."""

    __tablename__ = "secret_scopes"

    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id, ondelete="CASCADE"), primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    creation_time: Mapped[int]
    created_by: Mapped[str]


class WorkspaceSecret(Record):
    """One secret; `sealed` opens only with this row's workspace, scope, key and version."""

    __tablename__ = "secrets"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "scope"], ["secret_scopes.workspace_id", "secret_scopes.scope"], ondelete="CASCADE"
        ),
    )

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    sealed: Mapped[bytes] = mapped_column(LargeBinary())
    size_bytes: Mapped[int]
    update_time: Mapped[int]
    updated_by: Mapped[str]


class SecretDataKey(Record):
    """A workspace's data key, wrapped by the key-encryption key `key_id`.

    `last_version` is the highest version that a secret of the workspace ever had: none is given twice, so that no
    ciphertext of a deleted secret fits a new one of the same name.
    """

    __tablename__ = "secret_data_keys"

    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id, ondelete="CASCADE"), primary_key=True)
    key_id: Mapped[str] = mapped_column(index=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary())
    last_version: Mapped[int]
    creation_time: Mapped[int]


class SecretGrant(Record):
    """Leave for nodes to be handed a scope: one node, a cluster, or the nodes with these labels (`{}`: every node)."""

    __tablename__ = "secret_grants"
    __table_args__ = (
        ForeignKeyConstraint(
            ["workspace_id", "scope"], ["secret_scopes.workspace_id", "secret_scopes.scope"], ondelete="CASCADE"
        ),
    )

    grant_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(index=True)
    scope: Mapped[str]
    node_id: Mapped[str | None] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), index=True)
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey(Cluster.cluster_id, ondelete="CASCADE"), index=True)
    selector: Mapped[dict[str, Any] | None]
    creation_time: Mapped[int]
    created_by: Mapped[str]


class SecretBundle(Record):
    """What a node was handed last, and what it says it holds; `contents` and `held` are versions by `scope/key`.

    `fingerprint` is that of what was handed, `adopted_fingerprint` that of the last bundle the node says it took.
    `accepts` is False where the node's owner takes no secrets. `last_report` numbers the node's report of uses that
    was taken in last.
    """

    __tablename__ = "secret_bundles"

    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int]
    fingerprint: Mapped[str]
    contents: Mapped[dict[str, Any]]
    hand_time: Mapped[int | None]
    adopted_fingerprint: Mapped[str | None]
    held: Mapped[dict[str, Any]]
    adopt_time: Mapped[int | None]
    accepts: Mapped[bool]
    last_report: Mapped[str | None]
