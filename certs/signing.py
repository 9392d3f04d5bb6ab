"""Signing keys: the small interface behind which a private key may live in a file or in a hardware module."""

from typing import Any, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from certs.errors import CertificateError
from certs.keyfiles import PrivateKey

ES256 = "ES256"
EDDSA = "EdDSA"
ALGORITHMS = frozenset({ES256, EDDSA})
"""The JWS algorithms in use (RFC 7518 section 3.4, RFC 8037 section 3.1)."""

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_COORDINATE_BYTES = 32
_ECDSA = ec.ECDSA(hashes.SHA256())


class SigningKey(Protocol):
    """A private key that can sign; the key itself need not be in this process."""

    @property
    def algorithm(self) -> str:
        """`ES256` (P-256 with SHA-256) or `EdDSA` (Ed25519)."""

    def public_key(self) -> PublicKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """The signature of `message` in the form of X.509: DER for ECDSA, 64 bytes for Ed25519."""


class LocalSigningKey:
    """A signing key held in this process's memory, usually loaded from a key file."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self.algorithm = algorithm_of(signing_public_key(key.public_key()))

    def public_key(self) -> PublicKey:
        """The public half."""
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """The signature of `message` in the form of X.509."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, _ECDSA)


def algorithm_of(key: PublicKey) -> str:
    """The one JWS algorithm that a public key may be used with."""
    return EDDSA if isinstance(key, ed25519.Ed25519PublicKey) else ES256


def signing_public_key(key: object) -> PublicKey:
    """`key`, if it is of a kind that signs here.

    Raises:
        CertificateError: it is neither P-256 nor Ed25519.
    """
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    msg = "only P-256 and Ed25519 keys sign here"
    raise CertificateError(msg)


def jws_signature(key: SigningKey, message: bytes) -> bytes:
    """The signature of `message` in the form of JWS: R and S of 32 bytes each for ES256 (RFC 7518 section 3.4)."""
    signature = key.sign(message)
    if key.algorithm == EDDSA:
        return signature
    r, s = decode_dss_signature(signature)
    return r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")


class CertificateKey(ec.EllipticCurvePrivateKey):
    """Lets the certificate builder sign with a `SigningKey`; everything but signing is refused."""

    def __init__(self, key: SigningKey) -> None:
        public = key.public_key()
        if not isinstance(public, ec.EllipticCurvePublicKey):
            msg = "certificates are signed with P-256 keys"
            raise CertificateError(msg)
        self._key = key
        self._public = public

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def sign(self, data: Any, signature_algorithm: ec.EllipticCurveSignatureAlgorithm) -> bytes:
        """The DER signature of `data`; the algorithm is always ECDSA with SHA-256."""
        return self._key.sign(bytes(data))

    def _refuse(self, *_: object) -> Any:
        msg = "this key only signs"
        raise CertificateError(msg)

    exchange = _refuse  # type: ignore[assignment]
    private_numbers = _refuse
    private_bytes = _refuse  # type: ignore[assignment]
    __copy__ = _refuse
    __deepcopy__ = _refuse  # type: ignore[assignment]
