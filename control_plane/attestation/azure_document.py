"""Azure's attested documents: a signed statement of the metadata service about the VM that asked, over our nonce.

What is trusted is the certificate that signed, and only that: it must be issued under the pinned roots, at this moment,
to the host name that the settings say (`metadata.azure.com` for the public cloud) or one label below it, since Azure's
regions have names or a wildcard there, for a server. Certificates that are missing in the path are taken from the
settings, never fetched from where a document says.

https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service#attested-data
"""

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certs.chains import MALFORMED_EXTENSIONS
from certs.claims import LEEWAY_SECONDS
from certs.encoding import decode_base64, strict_json_object
from certs.errors import CertificateError
from control_plane.attestation.cms import SignedContent, read_signed
from control_plane.attestation.refusals import bad_evidence

PUBLIC_DOCUMENT_HOST = "metadata.azure.com"
MAX_CHAIN_DEPTH = 4

_DEPTH = 4
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TIME_FORM = "%m/%d/%y %H:%M:%S %z"


@dataclass(frozen=True, slots=True)
class DocumentAnchors:
    """Why a document is believed: pinned roots, certificates to build paths with, and the host that signs."""

    roots: tuple[x509.Certificate, ...]
    intermediates: tuple[x509.Certificate, ...] = ()
    host: str = PUBLIC_DOCUMENT_HOST


@dataclass(frozen=True, slots=True)
class AttestedDocument:
    """What a document says: the VM's own id and its subscription, in lower case."""

    vm_id: str
    subscription: str


def read_attested_document(text: str, nonce: str, anchors: DocumentAnchors, now: float) -> AttestedDocument:
    """Verify a document (base64) that was made for this evidence nonce.

    Raises:
        AttestationRefused: it is malformed, signed by anybody else, for another nonce, or not in force.
    """
    try:
        signed = read_signed(decode_base64(text))
        _verify_signer(signed, anchors, now)
        claims = strict_json_object(signed.content, max_depth=_DEPTH)
    except (CertificateError, ValueError) as error:
        raise bad_evidence(f"the attested document is refused: {error}") from None
    stated = claims.get("nonce")
    if not isinstance(stated, str) or not hmac.compare_digest(stated.encode(), nonce.encode()):
        raise bad_evidence("the attested document is for another challenge or another signing request")
    _check_times(claims.get("timeStamp"), now)
    return AttestedDocument(_uuid(claims, "vmId"), _uuid(claims, "subscriptionId"))


def _verify_signer(signed: SignedContent, anchors: DocumentAnchors, now: float) -> None:
    """Verify the very certificate whose key signed, as that of a server of the one host, or of one of its regions."""
    name = next(filter(None, (_spelled_out(name, anchors.host) for name in _dns_names(signed.signer))), None)
    if name is None:
        raise CertificateError("its signer is not the metadata service")
    policy = (
        PolicyBuilder()
        .store(Store(list(anchors.roots)))
        .time(datetime.fromtimestamp(now, UTC))
        .max_chain_depth(MAX_CHAIN_DEPTH)
    )
    try:
        verifier = policy.build_server_verifier(x509.DNSName(name))
        verifier.verify(signed.signer, [*anchors.intermediates, *signed.others])
    except (VerificationError, ValueError) as error:
        raise CertificateError("its signer has no path to a pinned root") from error


def _spelled_out(name: str, host: str) -> str | None:
    """A host that a certificate's name stands for and that may sign; `None` if there is none."""
    if name == host:
        return name
    label, _, parent = name.partition(".")
    if parent != host or not label:
        return None
    return f"any.{host}" if label == "*" else name


def _dns_names(certificate: x509.Certificate) -> Sequence[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED_EXTENSIONS):
        return []
    return names.get_values_for_type(x509.DNSName)


def _check_times(stated: object, now: float) -> None:
    times = stated if isinstance(stated, dict) else {}
    created_at, expires_at = (_time(times.get(name)) for name in ("createdOn", "expiresOn"))
    if created_at - LEEWAY_SECONDS > now:
        raise bad_evidence("the attested document was made in the future: compare the clocks")
    if now >= expires_at + LEEWAY_SECONDS:
        raise bad_evidence("the attested document has expired")


def _time(value: Any) -> float:
    try:
        return datetime.strptime(value, _TIME_FORM).astimezone(UTC).timestamp()
    except (TypeError, ValueError):
        raise bad_evidence("the attested document's time stamp is missing or malformed") from None


def _uuid(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    lowered = value.lower() if isinstance(value, str) and value.isascii() else ""
    if not _UUID.fullmatch(lowered):
        raise bad_evidence(f"the attested document's {name} is missing or malformed")
    return lowered
