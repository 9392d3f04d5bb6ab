"""The key ring: the token keys and certificate roots that are trusted now, with a number that grows at each change."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.encoding import canonical_json, decode_base64url, encode_base64url
from certs.errors import CertificateError
from certs.signing import PublicKey, algorithm_of

_COORDINATE_BYTES = 32


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A public key that tokens may be signed with, and the one algorithm it is used with."""

    key_id: str
    public_key: PublicKey

    @property
    def algorithm(self) -> str:
        """`ES256` or `EdDSA`."""
        return algorithm_of(self.public_key)


class KeyRing:
    """Trusted token keys by id, and trusted roots. Whoever caches what it verified compares `generation`."""

    __slots__ = ("_keys", "generation", "roots")

    def __init__(self, keys: Iterable[TokenKey] = (), roots: Sequence[x509.Certificate] = ()) -> None:
        self.generation = 0
        self.replace(keys, roots)

    def replace(self, keys: Iterable[TokenKey], roots: Sequence[x509.Certificate]) -> None:
        """Trust these keys and roots from now on, and no others."""
        self._keys: Mapping[str, TokenKey] = {key.key_id: key for key in keys}
        self.roots = tuple(roots)
        self.generation += 1

    def find(self, key_id: str) -> TokenKey | None:
        """The key with this id; from memory only, nothing is ever fetched."""
        return self._keys.get(key_id)

    @property
    def keys(self) -> tuple[TokenKey, ...]:
        """All trusted token keys."""
        return tuple(self._keys.values())


def jwk_of(key: PublicKey) -> dict[str, str]:
    """The required members of the key's JWK (RFC 7517; RFC 8037 for Ed25519)."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_base64url(raw)}
    numbers = key.public_numbers()
    x, y = (encode_base64url(n.to_bytes(_COORDINATE_BYTES, "big")) for n in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}


def key_from_jwk(jwk: Mapping[str, Any]) -> PublicKey:
    """The P-256 or Ed25519 public key in a JWK; members other than those required are ignored.

    Raises:
        CertificateError: another kind of key, a private key, or coordinates that are no point of the curve.
    """
    if "d" in jwk:
        msg = "the JWK holds a private key"
        raise CertificateError(msg)
    try:
        match jwk.get("kty"), jwk.get("crv"):
            case "EC", "P-256":
                x, y = (int.from_bytes(_coordinate(jwk, name), "big") for name in ("x", "y"))
                return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
            case "OKP", "Ed25519":
                return ed25519.Ed25519PublicKey.from_public_bytes(_coordinate(jwk, "x"))
    except ValueError as error:
        msg = "the JWK's coordinates are malformed"
        raise CertificateError(msg) from error
    msg = "the JWK is neither a P-256 nor an Ed25519 key"
    raise CertificateError(msg)


def key_id_of(key: PublicKey) -> str:
    """The key's JWK thumbprint (RFC 7638): its `kid`."""
    return encode_base64url(hashlib.sha256(canonical_json(jwk_of(key))).digest())


def token_key(key: PublicKey) -> TokenKey:
    """`key` under its own thumbprint."""
    return TokenKey(key_id_of(key), key)


def describe_token_key(key: TokenKey) -> dict[str, Any]:
    """The key's entry in a trust document."""
    return {"kid": key.key_id, "alg": key.algorithm, "jwk": jwk_of(key.public_key)}


def read_token_key(entry: Mapping[str, Any]) -> TokenKey:
    """The key that an entry of a trust document describes.

    Raises:
        CertificateError: a member is missing, or `alg` is not the algorithm of the key.
    """
    key_id, jwk = entry.get("kid"), entry.get("jwk")
    if not isinstance(key_id, str) or not isinstance(jwk, dict) or not 0 < len(key_id) <= 128:
        msg = "a token key needs kid and jwk"
        raise CertificateError(msg)
    key = TokenKey(key_id, key_from_jwk(jwk))
    if entry.get("alg") != key.algorithm:
        msg = "a token key's alg is not that of its jwk"
        raise CertificateError(msg)
    return key


def _coordinate(jwk: Mapping[str, Any], name: str) -> bytes:
    value = jwk.get(name)
    raw = decode_base64url(value) if isinstance(value, str) else b""
    if len(raw) != _COORDINATE_BYTES:
        msg = f"{name} is not {_COORDINATE_BYTES} bytes"
        raise ValueError(msg)
    return raw
