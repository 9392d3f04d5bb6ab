"""Succession: the certificates of an authority, and of the one that takes its place, vouched for by its predecessor.

A machine that slept through a rotation trusts the old root only. So the old root's key signs the new root's (a cross
certificate), and every chain under the new root carries it: leaf, issuing CA, new root with old, that one's with the
one before, and so on. Whoever trusts the new root stops at it; whoever trusts an old one goes on to that, until it
expires. Cross certificates form one line, since TLS libraries follow the first issuer that fits and do not come back.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.authority import Authority
from certs.chains import MAX_CROSS_CERTIFICATES, CertificateChain, certificates_from_pem, certificates_to_pem, root_of
from certs.errors import CertificateError
from certs.fingerprints import sha256_hex
from certs.issuance import make_cross, make_issuing, make_root
from certs.signing import SigningKey
from certs.trust_form import TrustDocument


@dataclass(frozen=True, slots=True)
class AuthorityCertificates:
    """The public side of an authority: root, issuing CA, and the cross certificates that lead to earlier roots."""

    root: x509.Certificate
    issuing: x509.Certificate
    crosses: tuple[x509.Certificate, ...] = ()

    @property
    def root_id(self) -> str:
        """The SHA-256 of the root, in lower-case hexadecimal: what names the authority."""
        return sha256_hex(self.root)

    @property
    def not_after(self) -> float:
        """When nothing can be issued any more, in seconds since the epoch."""
        return self.issuing.not_valid_after_utc.timestamp()

    def authority(self, trust_domain: str, issuing_key: SigningKey, now: float) -> Authority:
        """The authority that issues with this key; cross certificates that have expired are left out.

        Raises:
            CertificateError: the key is another one.
        """
        return Authority(trust_domain, self.issuing, issuing_key, [self.root], live_crosses(self.crosses, now))

    def document(self) -> dict[str, Any]:
        """The certificates as JSON."""
        return {
            "root": certificates_to_pem([self.root]),
            "issuing": certificates_to_pem([self.issuing]),
            "crosses": [certificates_to_pem([cross]) for cross in self.crosses],
        }

    @staticmethod
    def from_document(document: Mapping[str, Any]) -> "AuthorityCertificates":
        """The certificates in what `document` wrote.

        Raises:
            CertificateError: one is missing or damaged.
        """
        try:
            root, issuing = (certificates_from_pem(document[name], maximum=1)[0] for name in ("root", "issuing"))
            crosses = tuple(certificates_from_pem(pem, maximum=1)[0] for pem in document["crosses"])
        except (KeyError, TypeError) as error:
            msg = "the record of an authority is damaged"
            raise CertificateError(msg) from error
        return AuthorityCertificates(root, issuing, crosses)


def first_authority(
    trust_domain: str, root_key: SigningKey, issuing_key: SigningKey, *, now: float
) -> AuthorityCertificates:
    """The certificates of a first authority, which succeeds nobody."""
    root = make_root(root_key, trust_domain, now=now)
    return AuthorityCertificates(root, make_issuing(root, root_key, _public(issuing_key), trust_domain, now=now))


def succeed(
    predecessor: AuthorityCertificates,
    predecessor_root_key: SigningKey,
    root_key: SigningKey,
    issuing_key: SigningKey,
    trust_domain: str,
    *,
    now: float,
) -> AuthorityCertificates:
    """The certificates of the authority that is to take the predecessor's place.

    Raises:
        CertificateError: the predecessor's key does not belong to its root.
    """
    root = make_root(root_key, trust_domain, now=now, predecessor=predecessor.root)
    issuing = make_issuing(root, root_key, _public(issuing_key), trust_domain, now=now)
    cross = make_cross(predecessor.root, predecessor_root_key, root, now=now)
    crosses = (cross, *live_crosses(predecessor.crosses, now))[:MAX_CROSS_CERTIFICATES]
    return AuthorityCertificates(root, issuing, crosses)


def live_crosses(crosses: tuple[x509.Certificate, ...], now: float) -> tuple[x509.Certificate, ...]:
    """The cross certificates up to the first that has expired: behind it the line leads nowhere."""
    live = []
    for cross in crosses:
        if cross.not_valid_after_utc.timestamp() <= now:
            break
        live.append(cross)
    return tuple(live)


def root_is_retiring(chain: CertificateChain, document: TrustDocument) -> bool:
    """Whether a certificate is to be renewed because of what a trust document says about the root it stands on."""
    root = root_of(chain, document.roots)
    return root is None or sha256_hex(root) in document.retirement.roots


def root_is_gone(chain: CertificateChain, document: TrustDocument) -> bool:
    """Whether a certificate stands on a root that the trust document does not name any more."""
    return root_of(chain, document.roots) is None


def _public(key: SigningKey) -> ec.EllipticCurvePublicKey:
    public = key.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        msg = "certificates are signed with P-256 keys"
        raise CertificateError(msg)
    return public
