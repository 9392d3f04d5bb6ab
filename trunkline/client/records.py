"""The typed results of the control plane's and the agent's APIs.

Unknown fields are ignored, so that an older SDK reads a newer service. Fields named ``…_time`` are integer
milliseconds since the epoch, ``…_seconds`` durations, ``…_bytes`` sizes.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from trunkline.client.command_words import command_words


class Record(BaseModel):
    """An immutable answer of a service; unknown fields are ignored.

    Its validator is built when it is first used, since a program uses few of all the records that there are.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class Workspace(Record):
    """A tenant."""

    workspace_id: str
    workspace: str
    creation_time: int = 0


class Quota(Record):
    """Bounds of one party at each relay; None is no bound."""

    calls_per_second: int | None = None
    concurrent_calls: int | None = None
    bytes_per_second: int | None = None


class WorkspaceQuotas(Record):
    """The bounds of a whole workspace, and those of each of its senders by itself."""

    workspace: Quota = Quota()
    sender: Quota = Quota()


class InitScript(Record):
    """One script that new nodes run; `script`, its content in base64, is there where one script is asked for."""

    script_id: str
    name: str
    position: int = 0
    enabled: bool = False
    sha256: str = ""
    cluster_id: str | None = None
    secrets: dict[str, dict[str, str]] | None = None
    created_at: int = 0
    created_by: str = ""
    updated_at: int = 0
    updated_by: str = ""
    script: str | None = None


class InitOutcome(Record):
    """What became of one script on one node; the tails are there where it failed."""

    script_id: str
    name: str = ""
    sha256: str = ""
    state: str = ""
    command_id: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    stdout_tail: str | None = None
    stderr_tail: str | None = None


class NodeInit(Record):
    """A node's latest initialisation: ``PENDING``, ``INITIALISING``, ``READY`` or ``INIT_FAILED``."""

    run: int
    state: str
    reason: str | None = None
    requested_by: str | None = None
    request_time: int | None = None
    hand_time: int | None = None
    report_time: int | None = None
    scripts: list[InitOutcome] = Field(default_factory=list)

    @property
    def final(self) -> bool:
        """Whether the node has done with it."""
        return self.state in ("READY", "INIT_FAILED")


class Node(Record):
    """One enrolled machine as the control plane sees it; `init` is there where one node is asked for."""

    node_id: str
    node: str
    workspace_id: str = ""
    workspace: str = ""
    state: str = "pending"
    state_reason: str | None = None
    init_state: str | None = None
    init_reason: str | None = None
    init: NodeInit | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    clusters: list[str] = Field(default_factory=list)
    agent_version: str | None = None
    host: str | None = None
    creation_time: int = 0
    last_seen_time: int | None = None
    relay_id: str | None = None


class NodeHealth(Record):
    """A node's health: the control plane's verdict, or the agent's own answer; ``extra`` holds what is not named."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    status: str = ""
    state: str = ""
    state_reason: str | None = None
    state_time: int | None = None
    health_time: int | None = None
    node_id: str = ""
    agent_version: str | None = None
    uptime_seconds: float | None = None
    clock_offset_seconds: float | None = None
    load: list[float] | None = None
    memory: dict[str, Any] | None = None
    disk: dict[str, Any] | None = None
    pressure: dict[str, Any] | None = None
    checks: list[dict[str, Any]] = Field(default_factory=list)


class HealthCheck(Record):
    """What one check of a node by the control plane found, and the state that the node had after it."""

    time: int
    state: str = ""
    result: str = ""
    reason: str | None = None
    rtt_milliseconds: float | None = None


class NodePolicy(Record):
    """What a node's owner allows, in the node's own words; ``extra`` holds what is not named."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    node_id: str = ""
    node: str = ""
    commands: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, Any] = Field(default_factory=dict)
    ports: dict[str, Any] = Field(default_factory=dict)
    checks: list[str] = Field(default_factory=list)


class Cluster(Record):
    """A named group of nodes of one workspace."""

    cluster_id: str
    cluster: str
    nodes: list[Any] = Field(default_factory=list)
    init_scripts: list[dict[str, Any]] = Field(default_factory=list)
    creation_time: int = 0


class JoinToken(Record):
    """A join token's record; the token itself is only in the answer to its creation."""

    join_token_id: str = ""
    join_token: str | None = Field(default=None, repr=False)
    node_name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    uses: int | None = None
    used: int | None = None
    creation_time: int = 0
    expire_time: int = 0


class JoinPolicy(Record):
    """Which machines become nodes by what their cloud says of them."""

    join_policy_id: str
    join_policy: str
    platform: str
    conditions: dict[str, Any] = Field(default_factory=dict)
    node_name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    cluster_id: str | None = None
    reattestation: dict[str, Any] = Field(default_factory=dict)
    creation_time: int = 0


class JoinRequest(Record):
    """A known machine that waits for an operator, or did."""

    join_request_id: str
    state: str
    node_id: str = ""
    machine_id: str = ""
    join_policy_id: str = ""
    machine: dict[str, str] = Field(default_factory=dict)
    csr_sha256: str = ""
    source_address: str | None = None
    creation_time: int = 0
    last_time: int = 0
    expire_time: int = 0
    decided_by: str | None = None


class RelayJoinToken(Record):
    """A single-use token by which one relay enrols."""

    join_token: str = Field(repr=False)
    expire_time: int = 0


class Relay(Record):
    """An enrolled relay."""

    relay_id: str
    name: str = ""
    url: str | None = None
    dns_names: list[str] = Field(default_factory=list)
    creation_time: int = 0
    last_seen_time: int | None = None


class RelayAddress(Record):
    """Where a relay is reached: ``https://host:port``."""

    url: str
    relay_id: str = ""


class AccessToken(Record):
    """A call or workspace token with where to use it."""

    token: str = Field(repr=False)
    token_id: str = ""
    expire_time: int
    host: str | None = None
    relays: list[RelayAddress] = Field(default_factory=list)


class SecretScope(Record):
    """A named group of secrets."""

    name: str
    creation_time: int = 0


class WorkspaceSecret(Record):
    """A secret without its value."""

    key: str
    version: int = 0
    size_bytes: int = 0
    last_updated_timestamp: int = 0
    updated_by: str = ""


class SecretGrant(Record):
    """Leave for nodes to be given a scope's secrets; the target is that of a command."""

    scope: str
    target: dict[str, Any] = Field(default_factory=dict)
    creation_time: int = 0
    created_by: str = ""


class AdoptedSecret(Record):
    """One node's standing towards a secret; `version` is what it holds: adopted, waiting, refused, leaving."""

    node: str
    node_id: str = ""
    granted: bool = True
    state: str = ""
    version: int | None = None
    adopt_time: int | None = None


class KeyRotation(Record):
    """What a rotation of the key-encryption key did."""

    key_id: str
    workspaces: int = 0


class CommandState(StrEnum):
    """Where a command is in its life."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether the command will never leave this state."""
        return self in _FINAL_STATES


_FINAL_STATES = frozenset(
    {
        CommandState.SUCCEEDED,
        CommandState.FAILED,
        CommandState.TIMED_OUT,
        CommandState.CANCELLED,
        CommandState.LOST,
    }
)


class UnknownState(Record):
    """Since when and why it is not known how a command is, and how that will be known.

    `resolves_by` is set where it certainly will be known by then, and None where nobody can promise it.
    """

    since: int
    reason: str = ""
    resolves: str = ""
    resolves_by: int | None = None


class CommandEvent(Record):
    """One thing that happened to a command: recorded, delivered, started, unknown, ended, …"""

    event_id: int
    time: int = 0
    event: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class Command(Record):
    """A process run, or to be run, on one node; `unknown` is set while its state is UNKNOWN.

    What was written beyond a bound, or when a disk was full, was dropped: the output is whole up to there.
    """

    command_id: str
    submission_id: str = ""
    wave: int | None = None
    held: bool = False
    node_id: str = ""
    node: str = ""
    state: CommandState
    argv: list[str] = Field(default_factory=list)
    named: str | None = None
    parameters: dict[str, str | int | bool] | None = None
    secrets: dict[str, dict[str, str]] | None = None
    exit_code: int | None = None
    signal: int | str | None = None
    reason: str | None = None
    unknown: UnknownState | None = None
    submit_time: int | None = None
    deliver_before: int | None = None
    start_time: int | None = None
    end_time: int | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_dropped_bytes: int = 0
    stderr_dropped_bytes: int = 0
    submitted_by: str | None = None

    @property
    def command(self) -> list[str]:
        """What was asked for, as people read it; see `command_words`."""
        return command_words(self.argv, self.named, self.parameters)


class InputStanding(Record):
    """How far the standard input of a command has come at its node.

    Attributes:
        received_bytes: how much of it the node has, on its disk.
        complete: whether it has the end of it too.
        closed: whether the command reads nothing any more.
    """

    received_bytes: int
    complete: bool
    closed: bool = False


class OutputTime(Record):
    """The bytes of an output from `offset` on were written at `time` (ms since the epoch) or later.

    And before the time of the next one.
    """

    offset: int
    time: int


class AuditEvent(Record):
    """One line of the audit table; the columns beside these are in ``extra``."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    event_id: str | int = ""
    time: int = 0


class Adopted(Record):
    """A relay or node that has a revocation or lock in force, and what it cut because of it.

    ``after_milliseconds`` is the time from the acknowledgement to the relay's report, by the control plane's clock.
    """

    relay_id: str | None = None
    name: str = ""
    node_id: str | None = None
    node: str = ""
    sequence: int | None = None
    time: int = 0
    after_milliseconds: int | None = None
    cut_milliseconds: int | None = None
    links: int = 0
    streams: int = 0
    exchanges: int = 0


class Awaited(Record):
    """A relay or node that has not reported yet; ``following`` says whether the relay is connected."""

    relay_id: str | None = None
    name: str = ""
    node_id: str | None = None
    node: str = ""
    following: bool | None = None
    last_seen_time: int | None = None


class Adoption(Record):
    """How far a revocation or lock has come; the lists of nodes name a hundred at most."""

    complete: bool = False
    relays: list[Adopted] = Field(default_factory=list)
    nodes: list[Adopted] = Field(default_factory=list)
    waiting_relays: list[Awaited] = Field(default_factory=list)
    waiting_relay_count: int = 0
    waiting_nodes: list[Awaited] = Field(default_factory=list)
    waiting_node_count: int = 0


class Revocation(Record):
    """One revocation in the trust document."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    kind: str = ""
    id: str = ""
    sequence: int | None = None
    adoption: Adoption | None = None


class Lock(Record):
    """Something that may not be used for a while; ``state`` is ``IN_FORCE``, ``LIFTED`` or ``EXPIRED``."""

    lock_id: str
    kind: str = ""
    id: str = ""
    reason: str = ""
    state: str = ""
    sequence: int | None = None
    creation_time: int = 0
    expire_time: int = 0
    locked_by: str | None = None
    lift_time: int | None = None
    lifted_by: str | None = None
    lift_sequence: int | None = None
    adoption: Adoption | None = None
