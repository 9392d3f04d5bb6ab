"""Certificates that a restored database has forgotten: taken on record again when their holders come with them.

A database that was restored from a backup does not know the certificates that were issued since. Who presents one has
proved its key in the handshake, an authority that is trusted now has issued it, and its node or relay is on record: so
it is nobody else than it says. On record again, it can be confirmed, given secrets, renewed late, and ended with its
relay; left out, it could do none of that before its next renewal, and would outlive its relay's deletion.

A bootstrap ends what its node had before: a certificate on record by its revocation, a forgotten one by staying so.
"""

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.lifespan import lifespan_of
from certs.peers import PeerCertificate
from certs.spiffe import SpiffeId
from control_plane.errors import ApiError, ErrorCode
from control_plane.signing.in_force import SignersInForce
from control_plane.storage import certificates
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.nodes import Node
from trunkline.runtime.clock import Clock

ORIGIN = "taken_back"
NO_CSR = ""
"""Its signing request is forgotten: the hash of none is like this."""


class ForgottenCertificates:
    """Takes certificates on record again."""

    def __init__(self, *, database: Database, signers: SignersInForce, clock: Clock) -> None:
        self._database = database
        self._signers = signers
        self._clock = clock

    async def take_back(self, peer: PeerCertificate, identity: SpiffeId, subject_id: str, actor: Actor) -> None:
        """Take the certificate of a verified peer on record, as confirmed, unless it is there.

        Args:
            peer: the certificate; not revoked.
            identity: what it states.
            subject_id: the node or relay, which is on record.
            actor: the same as the audit names it.

        Raises:
            ApiError: UNAUTHENTICATED: no authority that is trusted now has issued it, or its node has confirmed a
                bootstrap since.
        """
        issuing = self._signers.issuing_of(peer.certificate)
        if peer.certificate is None or issuing is None:
            raise ApiError(ErrorCode.UNAUTHENTICATED, "the certificate is of an authority that is trusted no more")
        now = self._clock.now()
        chain = CertificateChain((peer.certificate, issuing))
        async with self._database.write() as session:
            if await certificates.find(session, peer.serial) is None:
                if await certificates.bootstrapped_since(session, subject_id, _issued_before_ms(chain)):
                    raise ApiError(ErrorCode.UNAUTHENTICATED, "this certificate has ended: its node bootstrapped since")
                session.add(await _record(session, chain, identity, subject_id, int(now * 1000)))
                details = {"certificate": peer.serial, "subject_id": subject_id}
                append(session, now, actor, Happening("certificate.take_back", details=details))


async def take_back_sealing_key(session: AsyncSession, node: Node, certificate: Certificate, sealing_key: str) -> None:
    """Take the sealing key that came with a forgotten certificate from its holder: once, unless it is outdated.

    Whoever holds the certificate's key could have it renewed together with any sealing key.
    """
    if not lacks_sealing_key(certificate) or await certificates.is_outdated(session, certificate):
        return
    certificate.sealing_key = node.sealing_key = sealing_key


def lacks_sealing_key(certificate: Certificate | None) -> bool:
    """Whether the sealing key that came with the certificate is forgotten."""
    return certificate is not None and certificate.origin == ORIGIN and certificate.sealing_key is None


def _issued_before_ms(chain: CertificateChain) -> int:
    """Return by when it was certainly issued: certificates name whole seconds."""
    return int(lifespan_of(chain).start + 1) * 1000


async def _record(
    session: AsyncSession, chain: CertificateChain, identity: SpiffeId, subject_id: str, now_ms: int
) -> Certificate:
    return Certificate(
        serial=chain.serial,
        subject_kind="node" if identity.node_id is not None else "relay",
        subject_id=subject_id,
        origin=ORIGIN,
        csr_sha256=NO_CSR,
        chain=chain.pem,
        issue_time=await certificates.next_issue_time(session, subject_id, now_ms),
        expire_time=int(chain.not_after * 1000),
        confirm_time=now_ms,
    )
