"""Approvals: a known machine that proves itself again waits until an operator has looked at it.

An approval is for one machine and one signing request, so nobody else who gets hold of the machine's evidence can use
it, and is used up by the bootstrap that it lets through.
"""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.attestation.machine import AttestedMachine
from control_plane.attestation.refusals import AttestationRefused, Outcome
from control_plane.errors import ErrorCode
from control_plane.names import new_id
from control_plane.storage import join_requests
from control_plane.storage.records.joining import JoinPolicy, JoinRequest
from control_plane.storage.records.nodes import Node

PENDING_SECONDS = 7 * 86_400
APPROVED_SECONDS = 86_400
PENDING, APPROVED, DENIED = join_requests.PENDING, "approved", "denied"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for an operator; `is_new` says that it was not there before."""

    join_request_id: str
    node: Node
    is_new: bool

    def refusal(self) -> AttestationRefused:
        """What the machine is told, which asks again by itself."""
        return AttestationRefused(
            Outcome.APPROVAL_NEEDED,
            ErrorCode.PERMISSION_DENIED,
            f"an operator has to let this machine in again: trunkline join-request approve {self.join_request_id}",
        )


async def approved(session: AsyncSession, node: Node, machine: AttestedMachine, csr_sha256: str, now: float) -> bool:
    """Tell whether an operator has approved this machine's signing request, and use the approval up.

    Raises:
        AttestationRefused: an operator has denied it.
    """
    request = await join_requests.find_for_csr(
        session, node.workspace_id, machine.machine_id, csr_sha256, int(now * 1000)
    )
    if request is None or request.state == PENDING:
        return False
    if request.state == DENIED:
        raise AttestationRefused(
            Outcome.DENIED, ErrorCode.PERMISSION_DENIED, "an operator has denied this machine's request to come back"
        )
    await session.delete(request)
    return True


async def wait_for_operator(
    session: AsyncSession,
    node: Node,
    policy: JoinPolicy,
    machine: AttestedMachine,
    *,
    csr_sha256: str,
    evidence_sha256: str,
    source_address: str | None,
    now: float,
) -> Waiting:
    """Record that the machine waits; asked again, the record only lives longer.

    Raises:
        AttestationRefused: too many machines of the workspace wait.
    """
    now_ms = int(now * 1000)
    known = await join_requests.find_for_csr(session, node.workspace_id, machine.machine_id, csr_sha256, now_ms)
    if known is not None:
        known.last_time, known.expire_time = now_ms, now_ms + PENDING_SECONDS * 1000
        return Waiting(known.join_request_id, node, is_new=False)
    if not await join_requests.make_room(session, node.workspace_id, machine.machine_id):
        raise AttestationRefused(
            Outcome.APPROVAL_NEEDED,
            ErrorCode.RESOURCE_EXHAUSTED,
            "too many machines wait for an operator: decide about those in `trunkline join-request list`",
            retry_after_seconds=600,
        )
    request = JoinRequest(
        join_request_id=new_id("jq"),
        workspace_id=node.workspace_id,
        join_policy_id=policy.join_policy_id,
        node_id=node.node_id,
        machine_id=machine.machine_id,
        csr_sha256=csr_sha256,
        evidence_sha256=evidence_sha256,
        machine=machine.audited(),
        source_address=source_address,
        state=PENDING,
        creation_time=now_ms,
        last_time=now_ms,
        expire_time=now_ms + PENDING_SECONDS * 1000,
    )
    session.add(request)
    return Waiting(request.join_request_id, node, is_new=True)
