"""Sealing: bytes that only the holder of one X25519 key can open (HPKE, RFC 9180, base mode).

Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM. The context is HPKE's `info`: sealed bytes open only for
whoever states the same context, so a secret sealed for one purpose cannot be passed off as another. Base mode does
not say who sealed: that comes from the connection it arrives over.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from certs.encoding import decode_base64url, encode_base64url
from certs.errors import SealingError

MAX_PLAINTEXT_BYTES = 8 * 1024 * 1024
ENCAPSULATION_BYTES = 32
TAG_BYTES = 16

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def seal(plaintext: bytes, public_key: X25519PublicKey, *, context: bytes) -> bytes:
    """`plaintext` sealed to `public_key`: the encapsulated key (32 bytes), then ciphertext and tag (16 bytes).

    Raises:
        SealingError: longer than `MAX_PLAINTEXT_BYTES`.
    """
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        msg = f"at most {MAX_PLAINTEXT_BYTES} bytes can be sealed"
        raise SealingError(msg)
    return _SUITE.encrypt(plaintext, public_key, info=context)


def open_sealed(sealed: bytes, private_key: X25519PrivateKey, *, context: bytes) -> bytes:
    """What was sealed to this key with this context.

    Raises:
        SealingError: sealed to another key or with another context, altered, or of impossible length.
    """
    if not ENCAPSULATION_BYTES + TAG_BYTES <= len(sealed) <= ENCAPSULATION_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES:
        msg = "sealed bytes of impossible length"
        raise SealingError(msg)
    try:
        return _SUITE.decrypt(sealed, private_key, info=context)
    except (InvalidTag, ValueError) as error:
        msg = "the sealed bytes are for another key or context, or were altered"
        raise SealingError(msg) from error


def write_sealing_key(public_key: X25519PublicKey) -> str:
    """The public sealing key as it travels: base64url of its 32 bytes."""
    return encode_base64url(public_key.public_bytes_raw())


def read_sealing_key(text: str) -> X25519PublicKey:
    """The public sealing key in `text`.

    Raises:
        SealingError: not the canonical base64url of 32 bytes, or a point of small order, which hides nothing.
    """
    try:
        key = X25519PublicKey.from_public_bytes(decode_base64url(text))
        X25519PrivateKey.generate().exchange(key)
    except ValueError as error:
        msg = "this is not an X25519 public key in base64url"
        raise SealingError(msg) from error
    return key
