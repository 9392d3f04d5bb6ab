"""The node's sealing key: what secrets are sealed to on their way here."""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from certs.encoding import decode_base64url, encode_base64url
from certs.sealing import write_sealing_key
from trunkline.runtime.secret import Secret


def new_sealing_key() -> Secret:
    """Make a sealing key (X25519, base64url)."""
    key = X25519PrivateKey.generate()
    return Secret(encode_base64url(key.private_bytes_raw()))


def public_sealing_key(key: Secret) -> str:
    """Return the public half, as the control plane takes it."""
    return write_sealing_key(private_sealing_key(key).public_key())


def private_sealing_key(key: Secret) -> X25519PrivateKey:
    """Return the private half, to open with."""
    return X25519PrivateKey.from_private_bytes(decode_base64url(key.reveal()))
