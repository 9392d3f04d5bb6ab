"""Admission: what becomes of a machine whose evidence is genuine, decided inside one transaction.

Theory of operation. First a policy must match; without one nobody is admitted. A machine that is not known becomes a
new node. A machine that is known keeps its node, if three questions in a row are answered well:

1. Is it the same instance? Its node must not be online, unless the machine shows the key that the node had (its
   predecessor's word). Otherwise somebody copied the machine, or its agent was set up anew while the old one still
   runs: the newcomer is refused and an alarm raised, and the node that is online is left in peace. So two copies can
   never take the identity from each other in turns. While the node or its workspace is locked, nobody is let in either
   without that key.
2. Is it still what it was? Where nobody but the evidence says that a VM and its resource belong together, they must be
   the pair that was seen first.
3. Does the policy let it come back by itself: always (`auto`), for a time (`window`), or with an operator's approval?
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.attestation.join_approvals import Waiting, approved, wait_for_operator
from control_plane.attestation.machine import AttestedMachine
from control_plane.attestation.policies import deciding, matches, rendered_name
from control_plane.attestation.refusals import AttestationRefused, Outcome, disagrees
from control_plane.errors import ErrorCode
from control_plane.storage import join_policies, locks, nodes, revocations, workspaces
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.joining import JoinPolicy
from control_plane.storage.records.nodes import Node

LIVE_STATES = frozenset({"online", "degraded"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What an admission depends on beside the machine.

    Attributes:
        workspace: the workspace that the machine wants to be in, if it says so.
        csr_sha256: the hash of the signing request.
        evidence_sha256: the hash of the evidence.
        source_address: where the machine asks from.
        predecessor_node_id: the node whose key the machine has shown, if it has shown one.
    """

    workspace: str | None
    csr_sha256: str
    evidence_sha256: str
    source_address: str | None
    predecessor_node_id: str | None


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision: an existing node, or a new one of this workspace with these names, labels and cluster.

    `bound_name` is the only name that will do; `wanted_name` is given if it is free.
    """

    workspace: Workspace
    node: Node | None = None
    bound_name: str | None = None
    wanted_name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    cluster_id: str | None = None
    join_policy_id: str | None = None


async def admit_machine(
    session: AsyncSession, machine: AttestedMachine, asked: Asked, now: float
) -> Admission | Waiting:
    """Decide about an attested machine; one that waits for an operator is taken note of.

    Raises:
        AttestationRefused: no.
    """
    policy, workspace = await _policy(session, machine, asked)
    known = await nodes.find_attested(session, workspace.workspace_id, machine.machine_id)
    await _check_pair(session, machine, known)
    if known is not None:
        waiting = await _check_return(session, known, policy, machine, asked, now)
        if waiting is not None:
            return waiting
    return Admission(
        workspace=workspace,
        node=known,
        wanted_name=rendered_name(policy.node_name, machine) if policy.node_name is not None else None,
        labels=dict(policy.labels),
        cluster_id=policy.cluster_id,
        join_policy_id=policy.join_policy_id,
    )


async def _policy(session: AsyncSession, machine: AttestedMachine, asked: Asked) -> tuple[JoinPolicy, Workspace]:
    wanted = await workspaces.find(session, asked.workspace) if asked.workspace is not None else None
    if asked.workspace is not None and wanted is None:
        raise _no_policy("the workspace that the machine asks for does not exist: see [bootstrap] workspace")
    found = [
        policy
        for policy in await join_policies.of_platform(session, machine.platform.value)
        if (wanted is None or policy.workspace_id == wanted.workspace_id) and matches(policy.conditions, machine)
    ]
    if not found:
        raise _no_policy("no join policy is for this machine: see `trunkline join-policy create`")
    if len({policy.workspace_id for policy in found}) > 1:
        raise _no_policy("join policies of several workspaces are for this machine: name one in [bootstrap] workspace")
    policy = deciding(found)
    workspace = await session.get(Workspace, policy.workspace_id)
    if workspace is None:
        raise _no_policy("the workspace of this machine's join policy was deleted")
    return policy, workspace


async def _check_pair(session: AsyncSession, machine: AttestedMachine, known: Node | None) -> None:
    """Hold a VM and its resource to each other, where only the evidence itself says that they belong together."""
    if machine.resource is None or machine.resource_is_proved:
        return
    if known is not None and known.machine_resource not in (None, machine.resource):
        raise disagrees("the machine had another resource id when it was first seen: if that is right, delete its node")
    others = await nodes.find_by_resource(session, machine.resource)
    if any(other.attested_as != machine.machine_id for other in others):
        raise disagrees("another machine was first seen under this resource id: if it is gone, delete its node")


async def _check_return(
    session: AsyncSession, node: Node, policy: JoinPolicy, machine: AttestedMachine, asked: Asked, now: float
) -> Waiting | None:
    """Decide whether a known machine may have a new identity; one that never confirmed its first one may."""
    if await revocations.is_revoked(session, "node", node.node_id):
        raise AttestationRefused(
            Outcome.DENIED,
            ErrorCode.PERMISSION_DENIED,
            "the node of this machine was revoked: delete it before the machine may join as a new one",
        )
    if asked.predecessor_node_id != node.node_id:
        await _check_rival(session, node, now)
    if node.confirm_time is None:
        return None
    mode = policy.reattestation.get("mode")
    if mode == "window" and now * 1000 > _window_end(node, policy.reattestation):
        raise AttestationRefused(
            Outcome.WINDOW_CLOSED,
            ErrorCode.PERMISSION_DENIED,
            "the time in which this machine may prove itself again is over: delete its node, or change its join policy",
        )
    if mode == "approval" and not await approved(session, node, machine, asked.csr_sha256, now):
        return await wait_for_operator(
            session,
            node,
            policy,
            machine,
            csr_sha256=asked.csr_sha256,
            evidence_sha256=asked.evidence_sha256,
            source_address=asked.source_address,
            now=now,
        )
    return None


async def _check_rival(session: AsyncSession, node: Node, now: float) -> None:
    """Refuse whoever shows no key of the node, while the node may be at work.

    One that is locked may be, though it is offline: no health check is let through to it.
    """
    for kind, name in (("node", node.node_id), ("workspace", node.workspace_id)):
        if await locks.is_locked(session, kind, name, int(now * 1000)):
            raise AttestationRefused(
                Outcome.DENIED,
                ErrorCode.PERMISSION_DENIED,
                f"the node of this machine ({node.node}) cannot be asked whether it is at work, since the {kind} is "
                "locked: lift the lock (`trunkline lock list`), or delete the node",
            )
    if node.state in LIVE_STATES:
        raise CloneAlarm(node)


def _window_end(node: Node, rule: dict[str, Any]) -> float:
    """When the window ends, in milliseconds."""
    first = node.confirm_time or node.creation_time
    since = node.last_seen_time or first if rule.get("since") == "last_seen" else first
    return since + int(rule["seconds"]) * 1000


class CloneAlarm(AttestationRefused):
    """A machine attests while its node is online: another instance of it is at work."""

    def __init__(self, node: Node) -> None:
        super().__init__(
            Outcome.CLONE,
            ErrorCode.RESOURCE_CONFLICT,
            f"the node of this machine ({node.node}) is online as another instance: stop one of the two",
        )
        self.node_id = node.node_id
        self.workspace_id = node.workspace_id


def _no_policy(message: str) -> AttestationRefused:
    return AttestationRefused(Outcome.NO_POLICY, ErrorCode.PERMISSION_DENIED, message)
