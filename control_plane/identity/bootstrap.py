"""Bootstrap: evidence and a signing request become a node with its first identity, exactly once.

Theory of operation. A nonce that was not given out, or is used up, is refused before anything else is looked at. Then
the evidence is verified, for a nonce that is made of the challenge and the signing request. Everything that decides
runs in one write transaction, and those run one after the other: of a hundred equal requests at once, the first makes
the node and the others find its answer. An answer is kept for ten minutes under (join token, or else nonce; hash of the
CSR), so a machine whose reply was lost asks again and gets the same identity. The same nonce with another CSR is
refused, and so is a used-up join token.

A machine that is known again by its evidence keeps its node. Its earlier identity stays valid until the new one is
confirmed over mTLS.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from certs.evidence_nonce import evidence_nonce
from control_plane.attestation.admission import Admission, Asked, CloneAlarm, admit_machine
from control_plane.attestation.evidence import JOIN_TOKEN, Evidence, EvidenceProvider, HeldJoinToken
from control_plane.attestation.join_approvals import Waiting
from control_plane.attestation.join_token import use_join_token
from control_plane.attestation.machine import AttestedMachine
from control_plane.attestation.predecessors import predecessor_of
from control_plane.attestation.refusals import AttestationRefused, Outcome
from control_plane.errors import ApiError, ErrorCode, conflict, invalid
from control_plane.identity.issuance import Issuance, csr_hash
from control_plane.init_scripts import node_inits
from control_plane.metrics import ControlPlaneMetrics
from control_plane.names import derived_name, new_id
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import bootstraps, clusters, nodes
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.joining import IssuedAnswer
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

NONCE_SECONDS = 60
ANSWER_SECONDS = 600
NAME_SUFFIX_BYTES = 4


@dataclass(frozen=True, slots=True)
class BootstrapRequest:
    """What a machine asks for; `predecessor` is the word of the identity that it had."""

    evidence: Evidence
    nonce: str
    csr: str
    sealing_key: str
    agent_version: str
    node_name: str | None = None
    workspace: str | None = None
    predecessor: str | None = None


@dataclass(frozen=True, slots=True)
class BootstrapAnswer:
    """What it is given, and when to renew it (milliseconds); the rest of the reply is the same for all."""

    node_id: str
    node: str
    workspace_id: str
    workspace: str
    certificate_chain: str
    listen_token: str
    renew_time: int | None = None


class Bootstrap:
    """Gives out nonces and decides about machines."""

    def __init__(
        self,
        *,
        database: Database,
        issuance: Issuance,
        providers: Mapping[str, EvidenceProvider],
        ledger: RefusalLedger,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        most_challenges: int,
    ) -> None:
        self._database = database
        self._issuance = issuance
        self._providers = providers
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._most_challenges = most_challenges

    async def challenge(self) -> tuple[str, int]:
        """Give out a nonce and say when it expires (milliseconds).

        Where too many are outstanding, the oldest ends: whoever asks for one to use it does so within a second, and
        whoever floods this has only his own end before their time.
        """
        nonce = secrets.token_urlsafe(32)
        now_ms = int(self._clock.now() * 1000)
        expire_time = now_ms + NONCE_SECONDS * 1000
        async with self._database.write() as session:
            if await bootstraps.count_challenges(session) >= self._most_challenges:
                await bootstraps.remove_expired(session, now_ms)
                await bootstraps.make_room(session, self._most_challenges - max(1, self._most_challenges // 100))
            bootstraps.add_challenge(session, nonce, expire_time)
        return nonce, expire_time

    async def decide(self, request: BootstrapRequest, actor: Actor) -> BootstrapAnswer:
        """Make the machine a node, or refuse.

        Raises:
            ApiError: why not.
        """
        method = request.evidence.method if request.evidence.method in self._providers else "unknown"
        try:
            answer, outcome = await self._decide(request, actor)
        except ApiError as error:
            outcome = error.outcome if isinstance(error, AttestationRefused) else Outcome.BAD_REQUEST
            self._count(method, error.code.symbol, outcome)
            self._take_note(error, request, actor)
            raise
        self._count(method, "ok", outcome)
        return answer

    def _count(self, method: str, result: str, outcome: Outcome) -> None:
        self._metrics.bootstraps.labels(method, result).inc()
        self._metrics.attestations.labels(method, outcome.value).inc()

    def _take_note(self, error: ApiError, request: BootstrapRequest, actor: Actor) -> None:
        """Count a refusal for the audit; a clone is an alarm of its own, by the node that it is a copy of."""
        sha256 = request.evidence.sha256
        if isinstance(error, CloneAlarm):
            self._metrics.clone_alarms.inc()
            self._ledger.record("node.clone_alarm", f"another instance attests as {error.node_id}", actor, sha256)
        self._ledger.record("node.bootstrap", error.message.splitlines()[0][:200], actor, sha256)

    async def _decide(self, request: BootstrapRequest, actor: Actor) -> tuple[BootstrapAnswer, Outcome]:
        provider = self._providers.get(request.evidence.method)
        if provider is None:
            raise ApiError(
                ErrorCode.PERMISSION_DENIED,
                f"this control plane takes evidence of: {', '.join(sorted(self._providers))}",
            )
        csr_sha256 = csr_hash(request.csr)
        credential = _credential(request)
        await self._refuse_unknown_nonce(request, credential, csr_sha256)
        nonce = evidence_nonce(request.nonce, request.csr)
        verified = await provider.verify(request.evidence, nonce, self._clock.now())
        now = self._clock.now()
        async with self._database.write() as session:
            known = await bootstraps.find_answer(session, credential, csr_sha256, int(now * 1000))
            if known is not None:
                return _answer(known), Outcome.REPEATED
            await self._use_nonce(session, request, int(now * 1000))
            admission = await self._admission(session, verified, request, csr_sha256, actor, now)
            if isinstance(admission, Admission):
                return await self._grant(session, admission, verified, request, actor, now)
            if admission.is_new:
                append(session, now, actor, _waits(request, admission))
        raise admission.refusal()

    async def _refuse_unknown_nonce(self, request: BootstrapRequest, credential: str, csr_sha256: str) -> None:
        """Refuse what cannot succeed before any evidence is looked at, and so before anything is fetched for it."""
        now_ms = int(self._clock.now() * 1000)
        async with self._database.read() as session:
            if await bootstraps.is_open(session, request.nonce, now_ms):
                return
            if await bootstraps.find_answer(session, credential, csr_sha256, now_ms) is not None:
                return
            raise await _bad_nonce(session, request, now_ms)

    async def _admission(
        self,
        session: AsyncSession,
        verified: AttestedMachine | HeldJoinToken,
        request: BootstrapRequest,
        csr_sha256: str,
        actor: Actor,
        now: float,
    ) -> Admission | Waiting:
        if isinstance(verified, HeldJoinToken):
            record, workspace = await use_join_token(session, verified, now)
            return Admission(
                workspace,
                bound_name=record.node_name,
                labels=dict(record.labels),
                cluster_id=record.cluster_id,
            )
        nonce = evidence_nonce(request.nonce, request.csr)
        asked = Asked(
            workspace=request.workspace,
            csr_sha256=csr_sha256,
            evidence_sha256=request.evidence.sha256,
            source_address=actor.source_address,
            predecessor_node_id=await predecessor_of(session, request.predecessor, nonce, self._issuance.trust_domain),
        )
        return await admit_machine(session, verified, asked, now)

    async def _grant(
        self,
        session: AsyncSession,
        admission: Admission,
        verified: AttestedMachine | HeldJoinToken,
        request: BootstrapRequest,
        actor: Actor,
        now: float,
    ) -> tuple[BootstrapAnswer, Outcome]:
        machine = verified if isinstance(verified, AttestedMachine) else None
        node = admission.node
        if node is None:
            node = await self._new_node(session, request, admission, machine, now)
        _refresh(node, request, admission, machine, int(now * 1000))
        answer = await self._issue(session, node, admission.workspace, request, now)
        await bootstraps.keep_answer(
            session,
            _credential(request),
            csr_hash(request.csr),
            subject_id=node.node_id,
            answer=_document(answer),
            expire_time=int((now + ANSWER_SECONDS) * 1000),
        )
        append(session, now, actor, _granted(request, machine, admission, answer))
        return answer, Outcome.ADMITTED if admission.node is None else Outcome.REATTESTED

    async def _use_nonce(self, session: AsyncSession, request: BootstrapRequest, now_ms: int) -> None:
        if not await bootstraps.use_challenge(session, request.nonce, now_ms):
            raise await _bad_nonce(session, request, now_ms)

    async def _new_node(
        self,
        session: AsyncSession,
        request: BootstrapRequest,
        admission: Admission,
        machine: AttestedMachine | None,
        now: float,
    ) -> Node:
        workspace_id = admission.workspace.workspace_id
        wanted = admission.wanted_name or request.node_name
        name = await _free_name(session, workspace_id, wanted, admission.bound_name)
        node = _made_node(request, machine, workspace_id, name, int(now * 1000))
        session.add(node)
        await session.flush()
        node_inits.begin(session, node.node_id, int(now * 1000))
        nodes.add_labels(session, node.node_id, admission.labels)
        if admission.cluster_id is not None:
            await clusters.add_members(session, admission.cluster_id, [node.node_id])
        return node

    async def _issue(
        self, session: AsyncSession, node: Node, workspace: Workspace, request: BootstrapRequest, now: float
    ) -> BootstrapAnswer:
        certificate = await self._issuance.node_certificate(
            session, node, request.csr, origin="bootstrap", sealing_key=request.sealing_key, now=now
        )
        return BootstrapAnswer(
            node_id=node.node_id,
            node=node.node,
            workspace_id=workspace.workspace_id,
            workspace=workspace.workspace,
            certificate_chain=certificate.chain,
            listen_token=self._issuance.listen_token(workspace, node, certificate.chain, now),
            renew_time=self._issuance.renew_time(certificate.chain, now, first=True),
        )


async def _free_name(session: AsyncSession, workspace_id: str, wanted: str | None, bound: str | None) -> str:
    """Return the bound name, or the wanted one if it is free, or one derived from it.

    Raises:
        ApiError: the token is bound to a name that is another one, or taken.
    """
    if bound is not None:
        if wanted not in (None, bound):
            raise invalid("node_name", f"this join token is for the node {bound!r}")
        if await nodes.taken_names(session, workspace_id, [bound]):
            raise conflict(f"a node named {bound!r} exists: delete it before another machine takes its name")
        return bound
    candidates = [wanted] if wanted is not None else []
    candidates += [derived_name(wanted, secrets.token_hex(NAME_SUFFIX_BYTES)) for _ in range(4)]
    taken = await nodes.taken_names(session, workspace_id, candidates)
    return next(name for name in candidates if name not in taken)


def _made_node(
    request: BootstrapRequest, machine: AttestedMachine | None, workspace_id: str, name: str, now_ms: int
) -> Node:
    return Node(
        node_id=new_id("nd"),
        workspace_id=workspace_id,
        node=name,
        attested_as=machine.machine_id if machine is not None else None,
        sealing_key=request.sealing_key,
        agent_version=request.agent_version,
        state="pending",
        state_reason="not seen yet",
        state_time=now_ms,
        creation_time=now_ms,
    )


def _refresh(
    node: Node, request: BootstrapRequest, admission: Admission, machine: AttestedMachine | None, now_ms: int
) -> None:
    """Record what this bootstrap says of a node, new or known; its sealing key changes only with the confirmation."""
    node.agent_version = request.agent_version
    if machine is not None:
        node.machine_resource = machine.resource
        node.attest_time = now_ms
        node.join_policy_id = admission.join_policy_id


def _credential(request: BootstrapRequest) -> str:
    """Return what the answer is kept under: what was asked for here is never answered with another kind's answer."""
    method = request.evidence.method
    return _kept_under(method, request.evidence.token if method == JOIN_TOKEN else request.nonce)


def _kept_under(method: str, proof: str) -> str:
    return f"bootstrap/{method}/{proof}"


async def _bad_nonce(session: AsyncSession, request: BootstrapRequest, now_ms: int) -> ApiError:
    if await bootstraps.has_answer(session, _kept_under(request.evidence.method, request.nonce), now_ms):
        return AttestationRefused(
            Outcome.BAD_NONCE,
            ErrorCode.RESOURCE_CONFLICT,
            "this nonce was used with another signing request: ask for a new challenge",
        )
    return AttestationRefused(
        Outcome.BAD_NONCE,
        ErrorCode.UNAUTHENTICATED,
        "the nonce is unknown, used or expired: ask for a new challenge",
    )


def _granted(
    request: BootstrapRequest, machine: AttestedMachine | None, admission: Admission, answer: BootstrapAnswer
) -> Happening:
    details = {
        "method": request.evidence.method,
        "evidence_sha256": request.evidence.sha256,
        "node_id": answer.node_id,
        "agent_version": request.agent_version,
        "known": admission.node is not None,
    }
    if machine is not None:
        details |= machine.audited() | {"join_policy_id": admission.join_policy_id or ""}
    return Happening("node.bootstrap", resource=answer.node, workspace_id=answer.workspace_id, details=details)


def _waits(request: BootstrapRequest, waiting: Waiting) -> Happening:
    details = {"method": request.evidence.method, "evidence_sha256": request.evidence.sha256}
    details |= {"node_id": waiting.node.node_id, "join_request_id": waiting.join_request_id}
    return Happening(
        "join_request.create",
        outcome="pending",
        resource=waiting.node.node,
        workspace_id=waiting.node.workspace_id,
        details=details,
    )


def _document(answer: BootstrapAnswer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in BootstrapAnswer.__slots__}


def _answer(known: IssuedAnswer) -> BootstrapAnswer:
    return BootstrapAnswer(**known.answer)
