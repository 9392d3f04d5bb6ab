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
from control_plane.allowances import Allowances
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
MOST_RETURNS_PER_SECOND = 0.1
"""Of one node, and ten minutes' worth at once, as of late renewals."""


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


@dataclass(frozen=True, slots=True)
class _Case:
    """A request whose evidence is good, at the moment of the decision (seconds)."""

    request: BootstrapRequest
    verified: AttestedMachine | HeldJoinToken
    csr_sha256: str
    actor: Actor
    now: float

    @property
    def now_ms(self) -> int:
        """The moment, as the database has it."""
        return int(self.now * 1000)

    @property
    def machine(self) -> AttestedMachine | None:
        """What was attested; None where a join token is all there is."""
        return self.verified if isinstance(self.verified, AttestedMachine) else None


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
        self._returns = Allowances(MOST_RETURNS_PER_SECOND, clock)
        for method in providers:
            for outcome in Outcome:
                metrics.attestations.labels(method, outcome.value)  # shown from the start, as 0

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
        await self._refuse_unknown_nonce(request, csr_sha256)
        nonce = evidence_nonce(request.nonce, request.csr)
        verified = await provider.verify(request.evidence, nonce, self._clock.now())
        case = _Case(request, verified, csr_sha256, actor, self._clock.now())
        async with self._database.write() as session:
            known = await bootstraps.find_answer(session, _credential(request), csr_sha256, case.now_ms)
            if known is not None:
                return _answer(known), Outcome.REPEATED
            if not await bootstraps.use_challenge(session, request.nonce, case.now_ms):
                raise await _bad_nonce(session, request, case.now_ms)
            admission = await self._admission(session, case)
            if isinstance(admission, Admission):
                if admission.node is not None:
                    self._returns.spend(admission.node.node_id)
                return await self._grant(session, case, admission)
            if admission.is_new:
                append(session, case.now, actor, _waits(request, admission))
        raise admission.refusal()

    async def _refuse_unknown_nonce(self, request: BootstrapRequest, csr_sha256: str) -> None:
        """Refuse what cannot succeed before any evidence is looked at, and so before anything is fetched for it."""
        now_ms = int(self._clock.now() * 1000)
        async with self._database.read() as session:
            if await bootstraps.is_open(session, request.nonce, now_ms):
                return
            if await bootstraps.find_answer(session, _credential(request), csr_sha256, now_ms) is not None:
                return
            raise await _bad_nonce(session, request, now_ms)

    async def _admission(self, session: AsyncSession, case: _Case) -> Admission | Waiting:
        request = case.request
        if isinstance(case.verified, HeldJoinToken):
            record, workspace = await use_join_token(session, case.verified, case.now)
            return Admission(
                workspace,
                bound_name=record.node_name,
                labels=dict(record.labels),
                cluster_id=record.cluster_id,
            )
        nonce = evidence_nonce(request.nonce, request.csr)
        asked = Asked(
            workspace=request.workspace,
            csr_sha256=case.csr_sha256,
            evidence_sha256=request.evidence.sha256,
            source_address=case.actor.source_address,
            predecessor_node_id=await predecessor_of(session, request.predecessor, nonce, self._issuance.trust_domain),
        )
        return await admit_machine(session, case.verified, asked, case.now)

    async def _grant(self, session: AsyncSession, case: _Case, admission: Admission) -> tuple[BootstrapAnswer, Outcome]:
        node = admission.node if admission.node is not None else await _new_node(session, case, admission)
        _refresh(node, case, admission)
        answer = await self._issue(session, node, admission.workspace, case)
        await bootstraps.keep_answer(
            session,
            _credential(case.request),
            case.csr_sha256,
            subject_id=node.node_id,
            answer=_document(answer),
            expire_time=int((case.now + ANSWER_SECONDS) * 1000),
        )
        append(session, case.now, case.actor, _granted(case, admission, answer))
        return answer, Outcome.ADMITTED if admission.node is None else Outcome.REATTESTED

    async def _issue(self, session: AsyncSession, node: Node, workspace: Workspace, case: _Case) -> BootstrapAnswer:
        request, now = case.request, case.now
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


async def _new_node(session: AsyncSession, case: _Case, admission: Admission) -> Node:
    workspace_id = admission.workspace.workspace_id
    wanted = admission.wanted_name or case.request.node_name
    name = await _free_name(session, workspace_id, wanted, admission.bound_name)
    node = Node(
        node_id=new_id("nd"),
        workspace_id=workspace_id,
        node=name,
        attested_as=case.machine.machine_id if case.machine is not None else None,
        sealing_key=case.request.sealing_key,
        agent_version=case.request.agent_version,
        state="pending",
        state_reason="not seen yet",
        state_time=case.now_ms,
        creation_time=case.now_ms,
    )
    session.add(node)
    await session.flush()
    node_inits.begin(session, node.node_id, case.now_ms)
    nodes.add_labels(session, node.node_id, admission.labels)
    if admission.cluster_id is not None:
        await clusters.add_members(session, admission.cluster_id, [node.node_id])
    return node


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


def _refresh(node: Node, case: _Case, admission: Admission) -> None:
    """Record what this bootstrap says of a node, new or known; its sealing key changes only with the confirmation."""
    node.agent_version = case.request.agent_version
    if case.machine is not None:
        node.machine_resource = case.machine.resource
        node.attest_time = case.now_ms
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


def _granted(case: _Case, admission: Admission, answer: BootstrapAnswer) -> Happening:
    request = case.request
    details = {
        "method": request.evidence.method,
        "evidence_sha256": request.evidence.sha256,
        "node_id": answer.node_id,
        "agent_version": request.agent_version,
        "known": admission.node is not None,
    }
    if case.machine is not None:
        details |= case.machine.audited() | {"join_policy_id": admission.join_policy_id or ""}
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
