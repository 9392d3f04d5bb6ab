"""Bootstrap: evidence and a signing request become a node with its first identity, exactly once.

Theory of operation. Everything that decides runs in one write transaction, and those run one after the other: of a
hundred equal requests at once, the first makes the node and the others find its answer. An answer is kept for ten
minutes under (join token, or else nonce; hash of the CSR), so a machine whose reply was lost asks again and gets the
same identity. The same nonce with another CSR is a conflict, and so is a used-up join token.

A machine that is known again by its evidence keeps its node. Its earlier identity stays valid until the new one is
confirmed over mTLS.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError, ErrorCode, conflict, invalid
from control_plane.identity.evidence import Admission, CheckedEvidence, EvidenceVerifier, evidence_hash
from control_plane.identity.issuance import Issuance, csr_hash
from control_plane.metrics import ControlPlaneMetrics
from control_plane.names import derived_name, new_id
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import bootstraps, clusters, nodes
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records import IssuedAnswer, Node, Workspace
from trunkline.runtime.clock import Clock

NONCE_SECONDS = 60
ANSWER_SECONDS = 600
NAME_SUFFIX_BYTES = 4


@dataclass(frozen=True, slots=True)
class BootstrapRequest:
    """What a machine asks for."""

    evidence_type: str
    evidence_token: str
    nonce: str
    csr: str
    sealing_key: str
    agent_version: str
    node_name: str | None


@dataclass(frozen=True, slots=True)
class BootstrapAnswer:
    """What it is given; the rest of the reply (trust document, relays) is the same for all."""

    node_id: str
    node: str
    workspace_id: str
    workspace: str
    certificate_chain: str
    listen_token: str


class Bootstrap:
    """Gives out nonces and decides about machines."""

    def __init__(
        self,
        *,
        database: Database,
        issuance: Issuance,
        verifiers: Mapping[str, EvidenceVerifier],
        ledger: RefusalLedger,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        most_challenges: int,
    ) -> None:
        self._database = database
        self._issuance = issuance
        self._verifiers = verifiers
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._most_challenges = most_challenges

    async def challenge(self) -> tuple[str, int]:
        """Give out a nonce and say when it expires (milliseconds)."""
        nonce = secrets.token_urlsafe(32)
        now_ms = int(self._clock.now() * 1000)
        expire_time = now_ms + NONCE_SECONDS * 1000
        async with self._database.write() as session:
            if await bootstraps.count_challenges(session) >= self._most_challenges:
                await bootstraps.remove_expired(session, now_ms)
            if await bootstraps.count_challenges(session) >= self._most_challenges:
                raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, "too many challenges are open", retry_after_seconds=10)
            bootstraps.add_challenge(session, nonce, expire_time)
        return nonce, expire_time

    async def decide(self, request: BootstrapRequest, actor: Actor) -> BootstrapAnswer:
        """Make the machine a node, or refuse.

        Raises:
            ApiError: why not.
        """
        method = request.evidence_type if request.evidence_type in self._verifiers else "unknown"
        try:
            answer = await self._decide(request, actor)
        except ApiError as error:
            self._metrics.bootstraps.labels(method, error.code.symbol).inc()
            reason = error.message.splitlines()[0][:200]
            self._ledger.record("node.bootstrap", reason, actor, evidence_hash(request.evidence_token))
            raise
        self._metrics.bootstraps.labels(method, "ok").inc()
        return answer

    async def _decide(self, request: BootstrapRequest, actor: Actor) -> BootstrapAnswer:
        verifier = self._verifiers.get(request.evidence_type)
        if verifier is None:
            raise ApiError(
                ErrorCode.PERMISSION_DENIED,
                f"this control plane takes evidence of: {', '.join(sorted(self._verifiers))}",
            )
        csr_sha256 = csr_hash(request.csr)
        checked = await verifier.check(request.evidence_token, self._clock.now())
        credential = checked.credential or request.nonce
        now = self._clock.now()
        async with self._database.write() as session:
            known = await bootstraps.find_answer(session, credential, csr_sha256, int(now * 1000))
            if known is not None:
                return _answer(known)
            await self._use_nonce(session, request.nonce, int(now * 1000))
            admission = await verifier.settle(session, checked, now)
            node = await self._node(session, request, checked, admission, now)
            answer = await self._issue(session, node, admission.workspace, request, now)
            await bootstraps.keep_answer(
                session,
                credential,
                csr_sha256,
                subject_id=node.node_id,
                answer=_document(answer),
                expire_time=int((now + ANSWER_SECONDS) * 1000),
            )
            append(session, now, actor, _granted(request, checked, answer))
        return answer

    async def _use_nonce(self, session: AsyncSession, nonce: str, now_ms: int) -> None:
        if await bootstraps.use_challenge(session, nonce, now_ms):
            return
        if await bootstraps.has_answer(session, nonce, now_ms):
            raise conflict("this nonce was used with another signing request: ask for a new challenge")
        raise ApiError(ErrorCode.UNAUTHENTICATED, "the nonce is unknown, used or expired: ask for a new challenge")

    async def _node(
        self,
        session: AsyncSession,
        request: BootstrapRequest,
        checked: CheckedEvidence,
        admission: Admission,
        now: float,
    ) -> Node:
        workspace_id = admission.workspace.workspace_id
        if checked.attested_as is not None:
            known = await nodes.find_attested(session, workspace_id, checked.attested_as)
            if known is not None:
                known.agent_version = request.agent_version
                return known
        name = await _free_name(session, workspace_id, request.node_name, admission.bound_name)
        node = _new_node(request, checked, workspace_id, name, int(now * 1000))
        session.add(node)
        await session.flush()
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


def _new_node(request: BootstrapRequest, checked: CheckedEvidence, workspace_id: str, name: str, now_ms: int) -> Node:
    return Node(
        node_id=new_id("nd"),
        workspace_id=workspace_id,
        node=name,
        attested_as=checked.attested_as,
        sealing_key=request.sealing_key,
        agent_version=request.agent_version,
        state="pending",
        state_reason="not seen yet",
        state_time=now_ms,
        creation_time=now_ms,
    )


def _granted(request: BootstrapRequest, checked: CheckedEvidence, answer: BootstrapAnswer) -> Happening:
    details = {
        "method": request.evidence_type,
        "evidence_sha256": evidence_hash(request.evidence_token),
        "node_id": answer.node_id,
        "agent_version": request.agent_version,
        **checked.claims,
    }
    return Happening("node.bootstrap", resource=answer.node, workspace_id=answer.workspace_id, details=details)


def _document(answer: BootstrapAnswer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in BootstrapAnswer.__slots__}


def _answer(known: IssuedAnswer) -> BootstrapAnswer:
    return BootstrapAnswer(**known.answer)
