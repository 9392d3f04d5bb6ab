"""Making signers: the keys first, on the disk or in the module before anything refers to them, then their public side.

A maker runs outside of any transaction. What it made without being recorded (the process was killed in between) is a
key that nobody trusts; the next attempt makes another under another name.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from certs.errors import CertificateError
from certs.keyring import describe_token_key, token_key
from certs.signing import SigningKey
from certs.succession import AuthorityCertificates, first_authority, succeed
from control_plane.signing.key_stores import KeyStores
from control_plane.signing.seats import certificates_of
from control_plane.storage.records.signers import Signer

FIRST_AUTHORITY = "authority"
FIRST_TOKEN_KEY = "token-key"  # noqa: S105 - the name of a file
DIRECTORY = "signers"
ROOT, ISSUING, SIGNING = "root", "issuing", "signing"


@dataclass(frozen=True, slots=True)
class Made:
    """A signer whose keys are stored and which no row names yet."""

    signer_id: str
    form: Mapping[str, Any]
    key_names: Mapping[str, str]


def make_token_key(stores: KeyStores, name: str | None = None) -> Made:
    """Make a key for tokens.

    Raises:
        CertificateError: it cannot be stored.
    """
    name = name or f"{DIRECTORY}/{_new_name('token-key')}"
    return describe_key(stores.tokens.create(name), name)


def describe_key(key: SigningKey, name: str) -> Made:
    """What is recorded of a token key that is stored under `name`."""
    described = token_key(key.public_key())
    return Made(described.key_id, describe_token_key(described), {SIGNING: name})


def make_first_authority(stores: KeyStores, trust_domain: str, now: float) -> Made:
    """Make the first authority.

    Raises:
        CertificateError: its keys cannot be stored.
    """
    names, keys = _new_authority_keys(stores)
    return describe_authority(first_authority(trust_domain, keys[ROOT], keys[ISSUING], now=now), names)


def make_successor(stores: KeyStores, predecessor: Signer, trust_domain: str, now: float) -> Made:
    """Make the authority that is to take the predecessor's place, cross-signed by it.

    Raises:
        CertificateError: the predecessor's root key is not at hand, or the new keys cannot be stored.
    """
    root_name = predecessor.key_names[ROOT]
    try:
        old_key = stores.authority.open(root_name)
    except CertificateError as error:
        msg = f"the root key {root_name} has to sign the new root, so bring it back for this step ({error})"
        raise CertificateError(msg) from None
    names, keys = _new_authority_keys(stores)
    certificates = succeed(certificates_of(predecessor), old_key, keys[ROOT], keys[ISSUING], trust_domain, now=now)
    return describe_authority(certificates, names)


def describe_authority(certificates: AuthorityCertificates, key_names: Mapping[str, str]) -> Made:
    """What is recorded of an authority whose keys are stored under these names."""
    return Made(certificates.root_id, certificates.document(), key_names)


def _new_authority_keys(stores: KeyStores) -> tuple[dict[str, str], dict[str, SigningKey]]:
    names = {part: f"{DIRECTORY}/{_new_name(part)}" for part in (ROOT, ISSUING)}
    return names, {part: stores.authority.create(name) for part, name in names.items()}


def _new_name(what: str) -> str:
    return f"{what}-{secrets.token_hex(8)}"
