"""Certificates as this authority writes them: profiles of root, issuing CA and SVID, strict since the first day.

Every certificate has a subject key identifier, an authority key identifier, critical basicConstraints and critical
keyUsage (RFC 5280 section 4.2), so that verifiers with `X509_STRICT` (Python 3.13 and newer) accept it. All begin
`BACKDATE_SECONDS` before they are made: the reader's clock may be behind the issuer's. What makes an authority that
succeeds another begins with that one at the latest: one that is made by a clock that is ahead, and signs when that has
been set right, would otherwise be one of the future, whose certificates nobody takes.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.errors import CertificateError
from certs.signing import CertificateKey, SigningKey
from certs.spiffe import SpiffeId

BACKDATE_SECONDS = 300
ROOT_LIFETIME_SECONDS = 10 * 365 * 86400
ISSUING_LIFETIME_SECONDS = 5 * 365 * 86400


def make_root(
    key: SigningKey, trust_domain: str, *, now: float, predecessor: x509.Certificate | None = None
) -> x509.Certificate:
    """A self-signed root. How many CAs may be below it is left open: roots that succeed it are signed with its key.

    All roots of a trust domain have the same name, and are told apart by their key identifiers. A cross certificate is
    then self-issued, and does not count in a path length (RFC 5280 section 6.1.4).
    """
    public = _public(key)
    subject = _name(f"{trust_domain} root")
    not_before = _beginning(now, predecessor)
    builder = _builder(subject, subject, public, not_before, now + ROOT_LIFETIME_SECONDS)
    return _sign(_as_authority(builder, path_length=None), public, key)


def make_cross(
    predecessor: x509.Certificate, predecessor_key: SigningKey, root: x509.Certificate, *, now: float
) -> x509.Certificate:
    """The key of `root`, vouched for by its predecessor ("new with old", RFC 4210 section 4.4); ends with that one."""
    public = root.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or predecessor.public_key() != predecessor_key.public_key():
        msg = "the predecessor's certificate does not belong to its key"
        raise CertificateError(msg)
    not_after = min(root.not_valid_after_utc.timestamp(), predecessor.not_valid_after_utc.timestamp())
    builder = _builder(root.subject, predecessor.subject, public, _beginning(now, predecessor), not_after)
    return _sign(_as_authority(builder, path_length=None), _public(predecessor_key), predecessor_key)


def make_issuing(
    issuer: x509.Certificate,
    issuer_key: SigningKey,
    public: ec.EllipticCurvePublicKey,
    trust_domain: str,
    *,
    now: float,
) -> x509.Certificate:
    """An issuing CA below `issuer`: may have no CA below it, and outlives its issuer never."""
    not_after = min(now + ISSUING_LIFETIME_SECONDS, issuer.not_valid_after_utc.timestamp())
    builder = _builder(_issuing_name(trust_domain), issuer.subject, public, _beginning(now, issuer), not_after)
    return _sign(_as_authority(builder, path_length=0), _public(issuer_key), issuer_key)


def is_issuing_for(issuing: x509.Certificate, trust_domain: str) -> bool:
    """Whether an issuing CA was made for this trust domain, as its name tells."""
    return issuing.subject == _issuing_name(trust_domain)


def make_svid(
    issuer: x509.Certificate,
    issuer_key: SigningKey,
    public: ec.EllipticCurvePublicKey,
    spiffe_id: SpiffeId,
    *,
    dns_names: Sequence[str] = (),
    now: float,
    lifetime_seconds: float,
) -> x509.Certificate:
    """An SVID (X509-SVID section 4) for TLS in both roles; it ends with its issuer at the latest.

    Raises:
        CertificateError: no lifetime left, or a DNS name that cannot stand in a certificate.
    """
    not_after = min(now + lifetime_seconds, issuer.not_valid_after_utc.timestamp())
    if not_after <= now:
        expiry = issuer.not_valid_after_utc.isoformat()
        msg = f"the issuing CA has expired ({expiry}): set this machine's clock right if that is not past"
        raise CertificateError(msg)
    subject = _name(str(spiffe_id).rpartition("/")[2])
    builder = _builder(subject, issuer.subject, public, _beginning(now), not_after)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(digital_signature=True), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(_names(spiffe_id, dns_names), critical=False)
    )
    return _sign(builder, _public(issuer_key), issuer_key)


def _public(key: SigningKey) -> ec.EllipticCurvePublicKey:
    return CertificateKey(key).public_key()


def _issuing_name(trust_domain: str) -> x509.Name:
    return _name(f"{trust_domain} issuing")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _names(spiffe_id: SpiffeId, dns_names: Sequence[str]) -> x509.SubjectAlternativeName:
    try:
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(spiffe_id))]
        return x509.SubjectAlternativeName([*names, *(x509.DNSName(name) for name in dns_names)])
    except (ValueError, TypeError) as error:
        msg = "a DNS name of the certificate is not plain ASCII"
        raise CertificateError(msg) from error


def _beginning(now: float, authority: x509.Certificate | None = None) -> float:
    """When what is made now begins: with the authority that vouches for it, or that it succeeds, at the latest."""
    begins = int(now) - BACKDATE_SECONDS
    return begins if authority is None else min(begins, authority.not_valid_before_utc.timestamp())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, not_before: float, not_after: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(not_before, UTC))
        .not_valid_after(datetime.fromtimestamp(int(not_after), UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _as_authority(builder: x509.CertificateBuilder, *, path_length: int | None) -> x509.CertificateBuilder:
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True).add_extension(
        _key_usage(key_cert_sign=True), critical=True
    )


def _sign(
    builder: x509.CertificateBuilder, issuer_public: ec.EllipticCurvePublicKey, key: SigningKey
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public)
    return builder.add_extension(identifier, critical=False).sign(CertificateKey(key), hashes.SHA256())


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
