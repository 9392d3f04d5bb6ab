"""Which node a machine was, as far as it can show: the word that it brings, checked against the record."""

from sqlalchemy.ext.asyncio import AsyncSession

from certs.chains import CertificateChain
from certs.errors import CertificateError
from certs.predecessor import read_predecessor
from control_plane.storage import certificates, revocations

NODE = "node"


async def predecessor_of(session: AsyncSession, word: str | None, nonce: str, trust_domain: str) -> str | None:
    """Return the id of the node whose key the machine has shown; None for no word, or one that is worth nothing.

    The word answers one question only, and evidence is needed beside it; so a bad one is no reason to refuse, but the
    machine is then taken for another instance. Worth nothing is also a key that the node has proved a newer one since:
    whoever shows it is a copy, or was restored.
    """
    if word is None:
        return None
    try:
        read = read_predecessor(word, nonce=nonce, trust_domain=trust_domain)
        record = await certificates.find(session, read.serial)
        if (
            record is None
            or record.subject_kind != NODE
            or await revocations.is_revoked(session, "certificate", read.serial)
            or await certificates.is_outdated(session, record)
        ):
            return None
        read.verify(CertificateChain.from_pem(record.chain).leaf.public_key())
    except CertificateError:
        return None
    return record.subject_id
