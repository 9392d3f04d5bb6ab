"""Authorities that a restored database has forgotten, as a trust document that was published later shows them.

A backup of before `ca prepare` does not know the authority that has signed since `ca activate`, and most relays and
nodes have certificates of it. All of them would be refused: no revocation would reach them any more, and none could
renew. So an authority that has signed the document in which it is trusted is recorded, as one that was left and whose
keys are not here. What it has issued is taken, on record or not, until it has been renewed under the authority of this
database.

The document is under a root that is trusted here, whose key has signed the other's cross certificate: so it adds
nothing that this root has not vouched for. Nor is an authority that was rolled back, and ended, good for long here: it
ends with the first newer document that does not name it.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain, root_of
from certs.fingerprints import sha256_hex
from certs.succession import AuthorityCertificates
from certs.trust import TrustDocument
from control_plane.signing.phases import SignerKind
from control_plane.signing.seats import AllSeats
from control_plane.storage import signers
from control_plane.storage.records.signers import Signer


async def record_forgotten(
    session: AsyncSession, document: TrustDocument, signed_by: CertificateChain, now_ms: int
) -> Signer | None:
    """Record the authority that has signed the document, if it is trusted in it and this database does not know it.

    Args:
        session: a transaction that writes.
        document: verified.
        signed_by: the verified chain of its signer.
        now_ms: milliseconds since the epoch.
    """
    root = root_of(signed_by, document.roots)
    if root is None or await signers.find(session, sha256_hex(root)) is not None:
        return None
    certificates = AuthorityCertificates(root, signed_by.certificates[1], signed_by.certificates[2:])
    known_ms = document.issued_at * 1000
    signer = signers.add(session, certificates.root_id, SignerKind.CA.value, certificates.document(), {}, known_ms)
    signers.end(signer, signers.LEFT, now_ms)
    await session.flush()
    return signer


def end_recorded(seats: AllSeats, document: TrustDocument, now_ms: int) -> Sequence[Signer]:
    """End for good the authorities that were so recorded by an older document, and that this one does not name."""
    roots, known_ms = {sha256_hex(root) for root in document.roots}, document.issued_at * 1000
    known = [signer for signer in seats.forgotten_authorities if signer.creation_time < known_ms]
    gone = [signer for signer in known if signer.signer_id not in roots]
    for signer in gone:
        signers.end(signer, signers.REVOKED, now_ms)
    return gone
