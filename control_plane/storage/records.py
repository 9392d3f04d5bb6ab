"""The tables, one class each; times are integer milliseconds since the epoch.

Only SQL that SQLite and PostgreSQL both know is used. Secrets (operator, join and relay join tokens) are here as
SHA-256 hashes only: they are 256 random bits, so a slow hash would add nothing.
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
# SQLite numbers rows by itself only where the key's type is INTEGER.
_COUNTER = BigInteger().with_variant(Integer(), "sqlite")


class Record(DeclarativeBase):
    """The base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        int: BigInteger(),
        str: String(255),
        dict[str, str]: JSON(),
        dict[str, Any]: JSON(),
        list[str]: JSON(),
    }


class Account(Record):
    """The owner of everything; exactly one row."""

    __tablename__ = "accounts"

    account_id: Mapped[str] = mapped_column(primary_key=True)
    page_key: Mapped[str]
    trust_sequence: Mapped[int]
    trust_change_time: Mapped[int]
    trust_fingerprint: Mapped[str | None]
    creation_time: Mapped[int]


class Operator(Record):
    """A holder of an operator token."""

    __tablename__ = "operators"

    operator_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    creation_time: Mapped[int]


class Workspace(Record):
    """A tenant."""

    __tablename__ = "workspaces"

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("accounts.account_id"))
    workspace: Mapped[str] = mapped_column(unique=True)
    creation_time: Mapped[int]
    quotas: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class Node(Record):
    """One enrolled machine; `attested_as` is what its evidence said it is, so that it is known again.

    `machine_resource` is what its platform calls it in full, `attest_time` when it last proved itself, and
    `join_policy_id` the policy that it was admitted by.
    """

    __tablename__ = "nodes"
    __table_args__ = (UniqueConstraint("workspace_id", "node"), UniqueConstraint("workspace_id", "attested_as"))

    node_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id"))
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

    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.node_id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    label_value: Mapped[str]


class Cluster(Record):
    """A named group of nodes of one workspace."""

    __tablename__ = "clusters"
    __table_args__ = (UniqueConstraint("workspace_id", "cluster"),)

    cluster_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id"))
    cluster: Mapped[str]
    creation_time: Mapped[int]


class ClusterMember(Record):
    """A node's membership in a cluster."""

    __tablename__ = "cluster_members"

    cluster_id: Mapped[str] = mapped_column(ForeignKey("clusters.cluster_id", ondelete="CASCADE"), primary_key=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.node_id", ondelete="CASCADE"), primary_key=True, index=True)


class JoinToken(Record):
    """Leave for a number of machines to become nodes of a workspace."""

    __tablename__ = "join_tokens"

    join_token_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id"), index=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    node_name: Mapped[str | None]
    labels: Mapped[dict[str, str]]
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey("clusters.cluster_id", ondelete="SET NULL"))
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
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id", ondelete="CASCADE"))
    join_policy: Mapped[str]
    platform: Mapped[str] = mapped_column(index=True)
    conditions: Mapped[dict[str, Any]]
    node_name: Mapped[str | None]
    labels: Mapped[dict[str, str]]
    cluster_id: Mapped[str | None] = mapped_column(ForeignKey("clusters.cluster_id", ondelete="SET NULL"))
    reattestation: Mapped[dict[str, Any]]
    creation_time: Mapped[int]


class JoinRequest(Record):
    """A known machine that waits for an operator, with the one signing request that an approval is for."""

    __tablename__ = "join_requests"
    __table_args__ = (UniqueConstraint("workspace_id", "machine_id", "csr_sha256"),)

    join_request_id: Mapped[str] = mapped_column(primary_key=True)
    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id", ondelete="CASCADE"))
    join_policy_id: Mapped[str]
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.node_id", ondelete="CASCADE"))
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


class RelayJoinToken(Record):
    """Leave for one relay to enrol under the DNS names that the operator gave."""

    __tablename__ = "relay_join_tokens"

    join_token_id: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    dns_names: Mapped[list[str]]
    relay_id: Mapped[str | None]
    expire_time: Mapped[int]
    creation_time: Mapped[int]


class Relay(Record):
    """An enrolled relay; `url` is known once it has said on which port it listens."""

    __tablename__ = "relays"

    relay_id: Mapped[str] = mapped_column(primary_key=True)
    relay: Mapped[str] = mapped_column(unique=True)
    dns_names: Mapped[list[str]]
    url: Mapped[str | None]
    trust_sequence: Mapped[int | None]
    creation_time: Mapped[int]
    last_seen_time: Mapped[int | None]


class Certificate(Record):
    """An SVID that was issued; `subject_id` is a node or a relay.

    `origin` says how it came: bootstrap, renewal, late_renewal, enrol. `sealing_key` becomes the node's when it proves
    to hold this certificate's key.
    """

    __tablename__ = "certificates"
    __table_args__ = (Index(None, "subject_id", "csr_sha256"),)

    serial: Mapped[str] = mapped_column(primary_key=True)
    subject_kind: Mapped[str]
    subject_id: Mapped[str]
    origin: Mapped[str]
    csr_sha256: Mapped[str]
    chain: Mapped[str] = mapped_column(Text())
    sealing_key: Mapped[str | None]
    issue_time: Mapped[int]
    expire_time: Mapped[int] = mapped_column(index=True)
    confirm_time: Mapped[int | None]


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


class Signer(Record):
    """A certificate authority or a token key: its public side, and the names of its keys in the key store.

    `state` is trusted, left (others stand where it stood), revoked or withdrawn (it never signed). `tokens_until` is
    when the last token ends that an operator was given under it.
    """

    __tablename__ = "signers"
    __table_args__ = (Index(None, "kind", "state"),)

    signer_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    form: Mapped[dict[str, Any]]
    key_names: Mapped[dict[str, str]]
    state: Mapped[str]
    creation_time: Mapped[int]
    end_time: Mapped[int | None]
    tokens_until: Mapped[int | None]


class Rotation(Record):
    """Where the rotation of one kind of signer stands; `version` grows with each step, and is what a step compares.

    `gate_sequence` is the number of the trust document that first says what this phase says.
    """

    __tablename__ = "rotations"

    kind: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    phase: Mapped[str]
    incumbent_id: Mapped[str] = mapped_column(ForeignKey("signers.signer_id"))
    candidate_id: Mapped[str | None] = mapped_column(ForeignKey("signers.signer_id"))
    step: Mapped[str | None]
    step_time: Mapped[int]
    stepped_by: Mapped[str] = mapped_column(String(512))
    gate_sequence: Mapped[int]


class TrustReport(Record):
    """What a node or relay last reported of the trust that it holds, and of what it stands on itself."""

    __tablename__ = "trust_reports"

    subject_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    trust_sequence: Mapped[int]
    root: Mapped[str | None]
    token_key: Mapped[str | None]
    report_time: Mapped[int]


class Revocation(Record):
    """Something that ended before its time; without `expire_time` it is kept for good."""

    __tablename__ = "revocations"

    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(index=True)
    expire_time: Mapped[int | None]
    creation_time: Mapped[int]
    revoked_by: Mapped[str]


class Lock(Record):
    """A revocation with an expiry and a reason, which can be lifted; kept for a while after it has ended.

    `ended` is set in the transaction that lifts it, or in the one that notes that it has expired. `sequence` is the
    number of the first trust document that has it, `lift_sequence` of the first that has it no more.
    """

    __tablename__ = "locks"
    __table_args__ = (Index(None, "ended", "expire_time"), Index(None, "kind", "id"))

    lock_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    id: Mapped[str]
    reason: Mapped[str] = mapped_column(String(512))
    lifetime_seconds: Mapped[int]
    sequence: Mapped[int] = mapped_column(index=True)
    creation_time: Mapped[int]
    expire_time: Mapped[int]
    locked_by: Mapped[str] = mapped_column(String(512))
    ended: Mapped[bool]
    lift_time: Mapped[int | None]
    lifted_by: Mapped[str | None] = mapped_column(String(512))
    lift_sequence: Mapped[int | None]


class TrustPublication(Record):
    """A trust document that was published, by its number and the fingerprint of its content.

    One number stands for one content, but for numbers that were used twice: before a restore, and after it.
    """

    __tablename__ = "trust_publications"

    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fingerprint: Mapped[str] = mapped_column(primary_key=True)
    time: Mapped[int] = mapped_column(index=True)


class TrustAdoption(Record):
    """A trust document that a relay has reported to be in force there; `time` is when we heard of it."""

    __tablename__ = "trust_adoptions"

    relay_id: Mapped[str] = mapped_column(ForeignKey("relays.relay_id", ondelete="CASCADE"), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    cut_milliseconds: Mapped[int]
    time: Mapped[int] = mapped_column(index=True)


class TrustCut(Record):
    """What a relay or a node has cut because of one revocation or lock, under the document with this number."""

    __tablename__ = "trust_cuts"

    cause: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    adopter_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    links: Mapped[int]
    streams: Mapped[int]
    exchanges: Mapped[int]
    time: Mapped[int] = mapped_column(index=True)


class NodeReporter(Record):
    """How far the reports of a node's agent have been taken in; one row a node, of the process heard last."""

    __tablename__ = "node_reporters"

    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.node_id", ondelete="CASCADE"), primary_key=True)
    reporter: Mapped[str]
    sequence: Mapped[int]
    dropped: Mapped[int]
    time: Mapped[int]


class Submission(Record):
    """One accepted request to run a command; the hash of its body tells a repetition from a conflict.

    `spec` is what nodes are sent. It may hold secrets, so it is forgotten as soon as no node needs it any more.
    `secrets` names the workspace secrets that it refers to, never their values. `named` and `parameters` stand in place
    of `argv`, which is then empty, where a command of the node's owner is meant.
    `rollout` is how its commands are let go: the plan with every share as a number. While `rollout_open`, `wave` is
    under way; since `wave_over_time` it is over, and the next one pauses. `stop_reason` says why what no node had yet
    was ended.
    """

    __tablename__ = "submissions"
    __table_args__ = (Index(None, "rollout_open"), Index(None, "workspace_id", "creation_time", "submission_id"))

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id"), primary_key=True)
    submission_id: Mapped[str] = mapped_column(primary_key=True)
    body_sha256: Mapped[str]
    argv: Mapped[list[str]]
    named: Mapped[str | None]
    parameters: Mapped[dict[str, Any] | None]
    spec: Mapped[dict[str, Any] | None]
    secrets: Mapped[dict[str, Any] | None]
    submitted_by: Mapped[str]
    creation_time: Mapped[int]
    rollout: Mapped[dict[str, Any] | None]
    rollout_open: Mapped[bool] = mapped_column(default=False)
    wave: Mapped[int | None]
    wave_over_time: Mapped[int | None]
    stop_reason: Mapped[str | None] = mapped_column(String(1024))


class Command(Record):
    """One process to run on one node.

    `delivered` says that the node has it; `maybe_delivered_until` that an attempt ended without an answer, and until
    when (milliseconds) the node could still accept it. A command that is `held` waits for its `wave`, or for its turn
    in it, and no node hears of it. `unknown_since` is set while the state is UNKNOWN; `event_count` counts
    its events, those too that were not written down any more.
    """

    __tablename__ = "commands"
    __table_args__ = (
        Index(None, "workspace_id", "submission_id"),
        Index(None, "workspace_id", "submit_time", "command_id"),
        Index(None, "final", "end_time"),
        Index(None, "node_id"),
    )

    workspace_id: Mapped[str] = mapped_column(ForeignKey("workspaces.workspace_id"), primary_key=True)
    command_id: Mapped[str] = mapped_column(primary_key=True)
    submission_id: Mapped[str]
    node_id: Mapped[str]
    node: Mapped[str]
    state: Mapped[str]
    final: Mapped[bool]
    delivered: Mapped[bool]
    maybe_delivered_until: Mapped[int | None]
    deliver_before: Mapped[int]
    cancel_requested: Mapped[bool]
    held: Mapped[bool] = mapped_column(default=False)
    wave: Mapped[int | None]
    exit_code: Mapped[int | None]
    signal: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(String(1024))
    submit_time: Mapped[int]
    start_time: Mapped[int | None]
    end_time: Mapped[int | None]
    stdout_bytes: Mapped[int]
    stderr_bytes: Mapped[int]
    stdout_dropped_bytes: Mapped[int | None]
    stderr_dropped_bytes: Mapped[int | None]
    unknown_since: Mapped[int | None]
    event_count: Mapped[int] = mapped_column(server_default="0")


class CommandEvent(Record):
    """One thing that happened to a command; `event` is of `EventKind`."""

    __tablename__ = "command_events"
    __table_args__ = (Index(None, "workspace_id", "command_id", "event_id"),)

    event_id: Mapped[int] = mapped_column(_COUNTER, primary_key=True, autoincrement=True)
    workspace_id: Mapped[str]
    command_id: Mapped[str]
    time: Mapped[int]
    event: Mapped[str]
    details: Mapped[dict[str, Any]]


class KeptOutput(Record):
    """How the output of an ended command is kept: `state` is wanted, kept or gone (nothing was left to be fetched).

    The sizes are those of the whole; head and tail are how much of its beginning and end is in the command's file.
    `times` has, by stream, pairs of an offset and a time.
    """

    __tablename__ = "kept_outputs"
    __table_args__ = (Index(None, "state", "keep_time"),)

    workspace_id: Mapped[str] = mapped_column(primary_key=True)
    command_id: Mapped[str] = mapped_column(primary_key=True)
    node_id: Mapped[str]
    state: Mapped[str]
    fetch_before: Mapped[int]
    stdout_bytes: Mapped[int]
    stdout_head_bytes: Mapped[int]
    stdout_tail_bytes: Mapped[int]
    stderr_bytes: Mapped[int]
    stderr_head_bytes: Mapped[int]
    stderr_tail_bytes: Mapped[int]
    kept_bytes: Mapped[int]
    keep_time: Mapped[int | None] = mapped_column(index=True)
    times: Mapped[dict[str, Any] | None]


class HealthObservation(Record):
    """What one health check of a node found; kept for a bounded time."""

    __tablename__ = "health_observations"
    __table_args__ = (Index(None, "node_id", "observation_id"),)

    observation_id: Mapped[int] = mapped_column(_COUNTER, primary_key=True, autoincrement=True)
    node_id: Mapped[str] = mapped_column(ForeignKey("nodes.node_id", ondelete="CASCADE"))
    time: Mapped[int] = mapped_column(index=True)
    state: Mapped[str]
    result: Mapped[str]
    reason: Mapped[str | None] = mapped_column(String(1024))
    rtt_milliseconds: Mapped[int | None]


class Reporter(Record):
    """How far the reports of one process of a relay have been taken in."""

    __tablename__ = "reporters"

    relay_id: Mapped[str] = mapped_column(ForeignKey("relays.relay_id", ondelete="CASCADE"), primary_key=True)
    reporter: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int]
    dropped: Mapped[int]
    time: Mapped[int]


class ReportTotal(Record):
    """How many events of a kind a relay reported in one hour; `hour` is its first millisecond."""

    __tablename__ = "report_totals"

    relay_id: Mapped[str] = mapped_column(ForeignKey("relays.relay_id", ondelete="CASCADE"), primary_key=True)
    hour: Mapped[int] = mapped_column(primary_key=True)
    type: Mapped[str] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    total: Mapped[int]


class AuditEvent(Record):
    """Who did what and what came of it; triggers refuse every UPDATE and DELETE."""

    __tablename__ = "audit_events"
    __table_args__ = (Index(None, "action", "event_id"), Index(None, "workspace_id", "event_id"))

    event_id: Mapped[int] = mapped_column(_COUNTER, primary_key=True, autoincrement=True)
    time: Mapped[int] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String(512))
    action: Mapped[str]
    outcome: Mapped[str]
    resource: Mapped[str | None] = mapped_column(String(512))
    workspace_id: Mapped[str | None]
    request_id: Mapped[str | None]
    source_address: Mapped[str | None]
    details: Mapped[dict[str, Any]]
