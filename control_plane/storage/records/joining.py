"""How machines become nodes: join tokens and policies, requests that wait for an operator, and bootstraps under way."""

from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import Cluster, Node
from control_plane.storage.records.record import Record


class JoinToken(Record):
    """Leave for a number of machines to become nodes of a workspace."""

    __tablename__ = "join_tokens"

    join_token_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id), index=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    node_name: Mapped[str | None]
    labels: Mapped[dict[str, str]]
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey(Cluster.cluster_id, ondelete="SET NULL"))
    uses: Mapped[int]
    used: Mapped[int]
    expire_time: Mapped[int]
    creation_time: Mapped[int]


class JoinPolicy(Record):
    """Which machines become nodes of a workspace by what their platform says of them, and under which name.

    `conditions` are lists by name (`accounts`, …) and a mapping (`tags`); `reattestation` is what is asked of a machine
    that proves itself again.
    """

    __tablename__ = "join_policies"
    __table_args__ = (UniqueConstraint("workspace_id", "join_policy"),)

    join_policy_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id, ondelete="CASCADE"))
    join_policy: Mapped[str]
    platform: Mapped[str] = mapped_column(index=True)
    conditions: Mapped[dict[str, Any]]
    node_name: Mapped[str | None]
    labels: Mapped[dict[str, str]]
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey(Cluster.cluster_id, ondelete="SET NULL"))
    reattestation: Mapped[dict[str, Any]]
    creation_time: Mapped[int]


class JoinRequest(Record):
    """A known machine that waits for an operator, with the one signing request that an approval is for."""

    __tablename__ = "join_requests"
    __table_args__ = (UniqueConstraint("workspace_id", "machine_id", "csr_sha256"),)

    join_request_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey(Workspace.workspace_id, ondelete="CASCADE"))
    join_policy_id: Mapped[str]
    node_id: Mapped[str] = mapped_column(ForeignKey(Node.node_id, ondelete="CASCADE"))
    machine_id: Mapped[str]
    csr_sha256: Mapped[str]
    evidence_sha256: Mapped[str]
    machine: Mapped[dict[str, str]]
    source_address: Mapped[str | None]
    state: Mapped[str]
    creation_time: Mapped[int]
    last_time: Mapped[int]
    expire_time: Mapped[int] = mapped_column(index=True)
    decided_by: Mapped[str | None] = mapped_column(String(512))


class Challenge(Record):
    """A nonce that was given out and not yet used."""

    __tablename__ = "challenges"

    nonce_sha256: Mapped[str] = mapped_column(primary_key=True)
    expire_time: Mapped[int] = mapped_column(index=True)


class IssuedAnswer(Record):
    """What a bootstrap was answered, for ten minutes; the key is the nonce or join token it was proved with."""

    __tablename__ = "issued_answers"

    credential_sha256: Mapped[str] = mapped_column(primary_key=True)
    csr_sha256: Mapped[str] = mapped_column(primary_key=True)
    subject_id: Mapped[str]
    answer: Mapped[dict[str, Any]]
    expire_time: Mapped[int] = mapped_column(index=True)
