"""The envelope of a secret: AES-256-GCM under its workspace's data key, bound to the very row that it lies in.

The associated data (RFC 5116 section 2.1) is the canonical JSON of a label, workspace, scope, key and version. A
ciphertext that is moved to another row, or put back under a later version, does not open. The nonce is random: at 96
bits one data key is good for 2^32 values (NIST SP 800-38D section 8.3), more than a workspace will ever see.
"""

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from certs.encoding import canonical_json

DATA_KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_LABEL = "trunkline secret 1"


class EnvelopeError(Exception):
    """A ciphertext does not open: it was altered, moved from another row, or sealed under another key."""


@dataclass(frozen=True, slots=True)
class SecretPlace:
    """The row that a value belongs to."""

    workspace_id: str
    scope: str
    key: str
    version: int

    def associated_data(self) -> bytes:
        """Return what a ciphertext of this place is bound to."""
        return canonical_json([_LABEL, self.workspace_id, self.scope, self.key, self.version])


def new_data_key() -> bytes:
    """Return a new data key."""
    return AESGCM.generate_key(DATA_KEY_BYTES * 8)


def seal_value(value: bytes, data_key: bytes, place: SecretPlace) -> bytes:
    """Return the nonce, then the ciphertext with its tag."""
    return seal_bound(value, data_key, place.associated_data())


def open_value(sealed: bytes, data_key: bytes, place: SecretPlace) -> bytes:
    """Return the value that was sealed for this place.

    Raises:
        EnvelopeError: it was not, or not with this key, or was altered.
    """
    return open_bound(sealed, data_key, place.associated_data())


def seal_bound(content: bytes, key: bytes, associated_data: bytes) -> bytes:
    """Seal anything with AES-256-GCM; the nonce comes first."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, associated_data)


def open_bound(sealed: bytes, key: bytes, associated_data: bytes) -> bytes:
    """Open what `seal_bound` gave.

    Raises:
        EnvelopeError: another key, other associated data, or altered.
    """
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise EnvelopeError("the ciphertext is too short to be one")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated_data)
    except InvalidTag:
        raise EnvelopeError("the ciphertext was altered, moved, or sealed under another key") from None
