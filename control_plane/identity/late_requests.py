"""Requests for late renewals, of nodes and relays alike: bounded, and proved by the key of a certificate on record.

Who asks has no certificate that a handshake takes, so everything is in the request (`certs.late_renewal`): it is signed
with the key of a certificate on record, over a nonce of ours that is used up with it, and it names the signing request
to answer. It is granted only to the newest key that its subject has proved to hold (or got since), for so many days
after its certificate expired, and to nobody and nothing that was revoked or locked.
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.errors import CertificateError
from certs.late_renewal import LateRenewalRequest, csr_digest, read_late_renewal
from control_plane.allowances import Allowances
from control_plane.errors import ApiError, ErrorCode
from control_plane.metrics import ControlPlaneMetrics
from control_plane.rate import Rate
from control_plane.refusal_ledger import RefusalLedger
from control_plane.storage import bootstraps, certificates, locks, revocations
from control_plane.storage.audit import Actor
from control_plane.storage.database import Database
from control_plane.storage.records.certificates import Certificate
from trunkline.runtime.clock import Clock

DAY_MILLISECONDS = 86_400_000
MOST_OF_A_SUBJECT_PER_SECOND = 0.1
"""Of one node or relay, and ten minutes' worth at once: enough for any that asks again, whatever it is answered."""


@dataclass(frozen=True, slots=True)
class LateRenewalLimits:
    """How long after its expiry a certificate's key is good for this (0: never), and how many are decided a second."""

    days: int
    most_per_second: float


class LateRequests:
    """Judges what every late renewal has in common; one for all kinds, so that the rate bounds them together."""

    def __init__(
        self,
        *,
        database: Database,
        trust_domain: str,
        clock: Clock,
        limits: LateRenewalLimits,
        ledger: RefusalLedger,
        metrics: ControlPlaneMetrics,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._metrics = metrics
        self._trust_domain = trust_domain
        self._clock = clock
        self._limits = limits
        self._rate = Rate(limits.most_per_second)
        self._subjects = Allowances(MOST_OF_A_SUBJECT_PER_SECOND, clock)

    @contextlib.contextmanager
    def counted(self, method: str, action: str, actor: Actor) -> Iterator[None]:
        """Count what comes of the decision in this block, and record its refusal for the audit."""
        try:
            yield
        except ApiError as error:
            self._metrics.bootstraps.labels(method, error.code.symbol).inc()
            self._ledger.record(action, error.message[:200], actor)
            raise
        self._metrics.bootstraps.labels(method, "ok").inc()

    async def read(self, text: str, csr: str, kind: str) -> LateRenewalRequest:
        """Return a request that is signed by the key of a certificate on record of this kind; nothing is written yet.

        Only what is signed counts towards the rate, and of one subject only so much: neither strangers nor a node that
        lies can keep others out.

        Raises:
            ApiError: it is none, or too many come at once.
        """
        if self._limits.days == 0:
            raise ApiError(ErrorCode.PERMISSION_DENIED, "late renewals are turned off: bootstrap or enrol anew")
        try:
            request = read_late_renewal(text, trust_domain=self._trust_domain)
        except CertificateError as error:
            raise refused(str(error)) from None
        if request.csr_sha256 != csr_digest(csr):
            raise refused("the request is signed for another signing request")
        async with self._database.read() as session:
            certificate = await certificates.find(session, request.serial)
        _verify(request, certificate, kind)
        self._subjects.spend(request.subject)
        if not self._rate.take(self._clock.monotonic()):
            retry_seconds = 5 + secrets.randbelow(30)
            raise ApiError(
                ErrorCode.RESOURCE_EXHAUSTED, "too many late renewals at once", retry_after_seconds=retry_seconds
            )
        return request

    async def use(self, session: AsyncSession, request: LateRenewalRequest, now: float) -> Certificate:
        """Use the request's nonce up, and return the certificate whose key is good for a late renewal.

        Raises:
            ApiError: the nonce is none of ours, or the certificate is gone, too old, outdated, revoked or locked.
        """
        now_ms = int(now * 1000)
        if not await bootstraps.use_challenge(session, request.nonce, now_ms):
            raise refused("the nonce is unknown, used or expired: ask for a new challenge")
        certificate = await certificates.find(session, request.serial)
        if certificate is None:
            raise refused("this certificate was deleted")
        if now_ms > certificate.expire_time + self._limits.days * DAY_MILLISECONDS:
            raise refused(f"the certificate expired more than {self._limits.days} days ago: bootstrap or enrol anew")
        if await certificates.is_outdated(session, certificate):
            kind = certificate.subject_kind
            raise refused(f"the {kind} has proved a newer key since: this one is a copy, or was restored")
        await refuse_ended(session, "certificate", certificate.serial, now_ms)
        return certificate


def _verify(request: LateRenewalRequest, certificate: Certificate | None, kind: str) -> None:
    """Refuse what is not signed by the certificate on record; whoever holds no key learns nothing else."""
    unknown = refused(f"the request is not signed by the key of a {kind}'s certificate that is on record")
    if certificate is None or certificate.subject_kind != kind:
        raise unknown
    try:
        chain = CertificateChain.from_pem(certificate.chain)
        request.verify(chain.leaf.public_key())
    except CertificateError:
        raise unknown from None
    if str(chain.spiffe_id) != request.subject:
        raise unknown


async def refuse_ended(session: AsyncSession, kind: str, name: str, now_ms: int) -> None:
    """Refuse what was revoked for good, and what is locked for now.

    Raises:
        ApiError: it was, or is.
    """
    if await revocations.is_revoked(session, kind, name):
        raise refused(f"this {kind} was revoked")
    if await locks.is_locked(session, kind, name, now_ms):
        raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, f"this {kind} is locked", retry_after_seconds=60)


def refused(message: str) -> ApiError:
    """Return the refusal of a late renewal."""
    return ApiError(ErrorCode.UNAUTHENTICATED, message)
