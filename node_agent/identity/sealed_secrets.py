"""Secrets that the control plane hands to a confirmed node: opened with the node's sealing key, kept in memory only."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from certs.encoding import decode_base64url, encode_base64url
from certs.errors import CertificateError
from certs.sealing import open_sealed
from node_agent.identity.node_identity import NodeIdentity
from trunkline.runtime.logs import Logger
from trunkline.runtime.secret import Secret


def new_sealing_key() -> Secret:
    """Make a sealing key (X25519, base64url)."""
    key = X25519PrivateKey.generate()
    return Secret(encode_base64url(key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())))


def public_sealing_key(key: Secret) -> str:
    """Return the public half, as the control plane takes it."""
    public = _private(key).public_key()
    return encode_base64url(public.public_bytes(Encoding.Raw, PublicFormat.Raw))


class NodeSecrets:
    """The node's secrets by name."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._secrets: dict[str, Secret] = {}

    def __len__(self) -> int:
        return len(self._secrets)

    def get(self, name: str) -> Secret | None:
        """Return a secret, or None."""
        return self._secrets.get(name)

    def take(self, sealed: Any, node: NodeIdentity) -> None:
        """Open what the control plane sent; what cannot be opened is named in the log and left out."""
        for entry in sealed if isinstance(sealed, list) else []:
            name = entry.get("name") if isinstance(entry, dict) else None
            text = entry.get("sealed") if isinstance(entry, dict) else None
            if not isinstance(name, str) or not isinstance(text, str):
                continue
            try:
                opened = open_sealed(decode_base64url(text), _private(node.sealing_key), context=_context(node, name))
                self._secrets[name] = Secret(opened.decode("utf-8"))
            except (CertificateError, ValueError):
                self._log.error("secret.not_opened", secret_name=name)


def _private(key: Secret) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(decode_base64url(key.reveal()))


def _context(node: NodeIdentity, name: str) -> bytes:
    return f"{node.spiffe_id} {name}".encode()
