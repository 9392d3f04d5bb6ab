"""Certificate chains: reading, writing and verifying a leaf with its issuers against roots in the plural."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from certs.errors import CertificateError
from certs.fingerprints import serial_hex, thumbprint
from certs.spiffe import SpiffeId

MAX_CROSS_CERTIFICATES = 6
"""Cross certificates behind an issuing CA: as many rotations a sleeper may have missed."""
MAX_CHAIN_CERTIFICATES = 2 + MAX_CROSS_CERTIFICATES
"""Leaf, issuing CA, cross certificates: more is refused before anything is parsed."""
MAX_CERTIFICATE_BYTES = 16 * 1024
MAX_ROOTS = 16
"""Roots in a trust document or a `ca_file` of ours; two while a rotation is under way."""
MALFORMED_EXTENSIONS = (x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError)
"""What the library raises where it cannot read the extensions of a certificate."""


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """A leaf and the certificates that issued it, leaf first, the root usually left out."""

    certificates: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.certificates) <= MAX_CHAIN_CERTIFICATES:
            msg = f"a certificate chain holds 1 to {MAX_CHAIN_CERTIFICATES} certificates"
            raise CertificateError(msg)

    @staticmethod
    def from_pem(pem: str | bytes) -> "CertificateChain":
        """The chain in `pem`, leaf first.

        Raises:
            CertificateError: no certificate, too many, or one that cannot be read.
        """
        return CertificateChain(certificates_from_pem(pem, maximum=MAX_CHAIN_CERTIFICATES))

    @staticmethod
    def from_der(certificates: Sequence[bytes]) -> "CertificateChain":
        """The chain in a list of DER certificates, leaf first.

        Raises:
            CertificateError: as `from_pem`.
        """
        if not 0 < len(certificates) <= MAX_CHAIN_CERTIFICATES:
            msg = f"a certificate chain holds 1 to {MAX_CHAIN_CERTIFICATES} certificates"
            raise CertificateError(msg)
        return CertificateChain(tuple(certificate_from_der(der) for der in certificates))

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that carries the identity."""
        return self.certificates[0]

    @property
    def pem(self) -> str:
        """The chain as PEM, leaf first."""
        return certificates_to_pem(self.certificates)

    @property
    def spiffe_id(self) -> SpiffeId:
        """The identity that the leaf states.

        Raises:
            CertificateError: the leaf states none, or more than one.
        """
        return spiffe_id_of(self.leaf)

    @property
    def serial(self) -> str:
        """The leaf's serial number, as revocations name it."""
        return serial_hex(self.leaf)

    @property
    def thumbprint(self) -> str:
        """The leaf's `x5t#S256`."""
        return thumbprint(self.leaf)

    @property
    def not_before(self) -> float:
        """When the leaf begins to be valid, in seconds since the epoch."""
        return self.leaf.not_valid_before_utc.timestamp()

    @property
    def not_after(self) -> float:
        """When the leaf ends to be valid, in seconds since the epoch."""
        return self.leaf.not_valid_after_utc.timestamp()


def verify_chain(chain: CertificateChain, roots: Sequence[x509.Certificate], now: float) -> SpiffeId:
    """Verify `chain` up to one of `roots` at the time `now` and return the SPIFFE id of its leaf.

    Path building and validation are the library's (RFC 5280 as profiled by the Web PKI); the leaf needs
    `clientAuth`, as every SVID of ours has it.

    Raises:
        CertificateError: no path to a root, expired, not yet valid, or no single SPIFFE id.
    """
    if not roots:
        msg = "there are no trusted roots"
        raise CertificateError(msg)
    policy = PolicyBuilder().store(Store(list(roots))).time(datetime.fromtimestamp(now, UTC))
    policy = policy.max_chain_depth(MAX_CHAIN_CERTIFICATES - 1)
    try:
        policy.build_client_verifier().verify(chain.leaf, list(chain.certificates[1:]))
    except (VerificationError, ValueError) as error:
        msg = f"the certificate chain is not trusted: {error}"
        raise CertificateError(msg) from error
    return chain.spiffe_id


def root_of(chain: CertificateChain, roots: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """The one of `roots` that signed the issuing CA of the leaf itself, not by way of a cross certificate."""
    issuing = chain.certificates[1] if len(chain.certificates) > 1 else chain.leaf
    for root in roots:
        try:
            issuing.verify_directly_issued_by(root)
        except (ValueError, TypeError, InvalidSignature):
            continue
        return root
    return None


def spiffe_id_of(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE id among the certificate's subject alternative names (X509-SVID section 2).

    Raises:
        CertificateError: there is none, more than one URI, or it is malformed.
    """
    uris = _uris(certificate)
    if len(uris) != 1:
        msg = "the certificate does not state exactly one URI"
        raise CertificateError(msg)
    return SpiffeId.parse(uris[0])


def certificates_from_pem(pem: str | bytes, *, maximum: int = MAX_ROOTS) -> tuple[x509.Certificate, ...]:
    """The certificates in `pem`, at least one and at most `maximum`.

    Raises:
        CertificateError: none, too many, too long, or one that cannot be read.
    """
    raw = pem.encode("utf-8", "surrogatepass") if isinstance(pem, str) else pem
    if len(raw) > 2 * maximum * MAX_CERTIFICATE_BYTES or raw.count(b"-----BEGIN CERTIFICATE-----") > maximum:
        msg = f"more than {maximum} certificates, or too long ones"
        raise CertificateError(msg)
    try:
        return tuple(x509.load_pem_x509_certificates(raw))
    except (ValueError, x509.InvalidVersion) as error:
        msg = "these are not PEM certificates"
        raise CertificateError(msg) from error


def certificate_from_der(der: bytes) -> x509.Certificate:
    """The certificate in `der`.

    Raises:
        CertificateError: too long, or no certificate.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        msg = f"a certificate is longer than {MAX_CERTIFICATE_BYTES} bytes"
        raise CertificateError(msg)
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, x509.InvalidVersion) as error:
        msg = "this is not a DER certificate"
        raise CertificateError(msg) from error


def certificates_to_pem(certificates: Iterable[x509.Certificate]) -> str:
    """The certificates as PEM, in their order."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode("ascii") for certificate in certificates)


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, *MALFORMED_EXTENSIONS):
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
