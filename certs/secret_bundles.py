"""Bundles of secrets: what the control plane hands to one node, sealed to that node's key as one piece.

HPKE's `info` is the canonical JSON of a label, the node's SPIFFE ID (which names its workspace) and the bundle's
sequence number. A bundle therefore opens only for the node that it was made for, and only as the number that it was
made under: what is older, or another node's, cannot be passed off as something else. Whether the number is new is for
the node to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from certs.encoding import canonical_json, decode_base64url, encode_base64url, strict_json_object
from certs.errors import SealingError
from certs.sealing import open_sealed, seal
from certs.spiffe import SpiffeId

LARGEST_SEQUENCE = 2**53 - 1
MAX_DEPTH = 4
_LABEL = "trunkline secret bundle 1"


@dataclass(frozen=True, slots=True)
class BundledSecret:
    """One secret, opened."""

    scope: str
    key: str
    version: int
    value: bytes = field(repr=False)


def seal_bundle(secrets: Sequence[BundledSecret], public_key: X25519PublicKey, node: SpiffeId, sequence: int) -> str:
    """The secrets, sealed for `node` under this number, as base64url.

    Raises:
        SealingError: they are too many bytes, or the number is out of bounds.
    """
    document = [
        {"scope": one.scope, "key": one.key, "version": one.version, "value": encode_base64url(one.value)}
        for one in secrets
    ]
    plaintext = canonical_json({"secrets": document})
    return encode_base64url(seal(plaintext, public_key, context=_context(node, sequence)))


def open_bundle(sealed: str, private_key: X25519PrivateKey, node: SpiffeId, sequence: int) -> list[BundledSecret]:
    """The secrets of a bundle.

    Raises:
        SealingError: it was sealed to another key, for another node, under another number, or is damaged.
    """
    try:
        raw = decode_base64url(sealed)
    except ValueError:
        msg = "the bundle is not base64url"
        raise SealingError(msg) from None
    plaintext = open_sealed(raw, private_key, context=_context(node, sequence))
    try:
        return [_read(one) for one in strict_json_object(plaintext, max_depth=MAX_DEPTH)["secrets"]]
    except (ValueError, KeyError, TypeError):
        msg = "the bundle does not hold a list of secrets"
        raise SealingError(msg) from None


def _read(document: Any) -> BundledSecret:
    scope, key, version = document["scope"], document["key"], document["version"]
    if not isinstance(scope, str) or not isinstance(key, str) or type(version) is not int:
        raise TypeError
    return BundledSecret(scope, key, version, decode_base64url(document["value"]))


def _context(node: SpiffeId, sequence: int) -> bytes:
    if node.node_id is None or not 0 < sequence <= LARGEST_SEQUENCE:
        msg = "a bundle is for a node, and has a number"
        raise SealingError(msg)
    return canonical_json([_LABEL, str(node), sequence])
