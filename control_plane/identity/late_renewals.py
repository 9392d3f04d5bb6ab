"""Late renewals: a node whose certificate has expired gets the next one, by the key of the one it had.

Who asks has no certificate that a handshake takes, so everything is in the request (`certs.late_renewal`): it is signed
with the key of a certificate on record, over a nonce of ours that is used up with it, and it names the signing request
to answer. It is granted only to the newest key that the node has proved to hold (or got since), for so many days after
its certificate expired, and to nobody and nothing that was revoked, locked, or deleted. Nodes that a platform attests
are sent there.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.errors import CertificateError
from certs.late_renewal import LateRenewalRequest, csr_digest, read_late_renewal
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity.issuance import Issuance
from control_plane.identity.pairs import Pair, PairRequest, issue_pair
from control_plane.metrics import ControlPlaneMetrics
from control_plane.rate import Rate
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import bootstraps, certificates, locks, revocations
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records import Certificate, Node, Workspace
from trunkline.runtime.clock import Clock

METHOD = "late_renewal"
DAY_MILLISECONDS = 86_400_000


@dataclass(frozen=True, slots=True)
class LateRenewalLimits:
    """How long after its expiry a certificate's key is good for this (0: never), and how many are decided a second."""

    days: int
    most_per_second: float


class LateRenewals:
    """Decides about nodes that were off for long."""

    def __init__(
        self,
        *,
        database: Database,
        issuance: Issuance,
        ledger: RefusalLedger,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        limits: LateRenewalLimits,
    ) -> None:
        self._database = database
        self._issuance = issuance
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._limits = limits
        self._rate = Rate(limits.most_per_second)

    async def decide(self, text: str, csr: str, agent_version: str, actor: Actor) -> Pair:
        """Issue the node's next leaf and listen token, or refuse.

        Raises:
            ApiError: why not.
        """
        try:
            pair = await self._decide(text, csr, agent_version, actor)
        except ApiError as error:
            self._metrics.bootstraps.labels(METHOD, error.code.symbol).inc()
            self._ledger.record("node.late_renewal", error.message[:200], actor)
            raise
        self._metrics.bootstraps.labels(METHOD, "ok").inc()
        return pair

    async def _decide(self, text: str, csr: str, agent_version: str, actor: Actor) -> Pair:
        if self._limits.days == 0:
            raise ApiError(ErrorCode.PERMISSION_DENIED, "late renewals are turned off: bootstrap anew")
        if not self._rate.take(self._clock.monotonic()):
            retry_seconds = 5 + secrets.randbelow(30)
            raise ApiError(
                ErrorCode.RESOURCE_EXHAUSTED, "too many late renewals at once", retry_after_seconds=retry_seconds
            )
        request = self._read(text, csr)
        async with self._database.read() as session:
            _verify(request, await certificates.find(session, request.serial))
        now = self._clock.now()
        async with self._database.write() as session:
            if not await bootstraps.use_challenge(session, request.nonce, int(now * 1000)):
                raise _refused("the nonce is unknown, used or expired: ask for a new challenge")
            workspace, node, certificate = await self._admitted(session, request, now)
            asked = PairRequest(csr, request.sealing_key, METHOD)
            pair, is_new = await issue_pair(session, self._issuance, workspace, node, asked, now)
            node.agent_version = agent_version
            if is_new:
                append(session, now, actor, _granted(node, certificate, pair))
        return pair

    def _read(self, text: str, csr: str) -> LateRenewalRequest:
        try:
            request = read_late_renewal(text, trust_domain=self._issuance.trust_domain)
        except CertificateError as error:
            raise _refused(str(error)) from None
        if request.csr_sha256 != csr_digest(csr):
            raise _refused("the request is signed for another signing request")
        return request

    async def _admitted(
        self, session: AsyncSession, request: LateRenewalRequest, now: float
    ) -> tuple[Workspace, Node, Certificate]:
        certificate = await certificates.find(session, request.serial)
        node = None if certificate is None else await session.get(Node, certificate.subject_id)
        workspace = None if node is None else await session.get(Workspace, node.workspace_id)
        if certificate is None or node is None or workspace is None or node.confirm_time is None:
            raise _refused("this node was deleted")
        now_ms = int(now * 1000)
        if now_ms > certificate.expire_time + self._limits.days * DAY_MILLISECONDS:
            raise _refused(f"the certificate expired more than {self._limits.days} days ago: bootstrap anew")
        if node.attested_as is not None:
            raise _refused("the platform attests this node: bootstrap with its evidence")
        if await certificates.is_outdated(session, certificate):
            raise _refused("the node has proved a newer key since: this one is a copy, or was restored")
        await _refuse_ended(session, certificate, node, now_ms)
        return workspace, node, certificate


def _verify(request: LateRenewalRequest, certificate: Certificate | None) -> None:
    """Refuse what is not signed by the certificate on record; whoever holds no key learns nothing else."""
    unknown = _refused("the request is not signed by the key of a node's certificate that is on record")
    if certificate is None or certificate.subject_kind != "node":
        raise unknown
    try:
        chain = CertificateChain.from_pem(certificate.chain)
        request.verify(chain.leaf.public_key())
    except CertificateError:
        raise unknown from None
    if str(chain.spiffe_id) != request.subject:
        raise unknown


async def _refuse_ended(session: AsyncSession, certificate: Certificate, node: Node, now_ms: int) -> None:
    for kind, name in (("certificate", certificate.serial), ("node", node.node_id), ("workspace", node.workspace_id)):
        if await revocations.is_revoked(session, kind, name):
            raise _refused(f"this {kind} was revoked")
        if await locks.is_locked(session, kind, name, now_ms):
            raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, f"this {kind} is locked", retry_after_seconds=60)


def _refused(message: str) -> ApiError:
    return ApiError(ErrorCode.UNAUTHENTICATED, message)


def _granted(node: Node, certificate: Certificate, pair: Pair) -> Happening:
    details = {"node_id": node.node_id, "by_certificate": certificate.serial, "certificate": pair.serial}
    return Happening("node.late_renewal", resource=node.node, workspace_id=node.workspace_id, details=details)
