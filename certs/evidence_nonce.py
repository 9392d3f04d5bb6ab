"""What evidence is bound to: a nonce made of the control plane's challenge and the signing request that goes with it.

A cloud signs the nonce that it is handed, so evidence that was overheard or stored proves nothing for another
challenge, nor for another key: the agent and the control plane each derive the nonce, and it never travels beside the
evidence. It is 32 hexadecimal digits, since Azure's metadata service takes at most 32 alphanumeric characters; 128
bits of a hash over a single-use secret leave nothing to guess.
"""

import hashlib

NONCE_CHARACTERS = 32
_DOMAIN = b"trunkline evidence nonce v1"


def evidence_nonce(challenge: str, csr: str) -> str:
    """The nonce to be signed, for this challenge and this signing request (PEM, as it is sent)."""
    parts = (_DOMAIN, hashlib.sha256(challenge.encode()).digest(), hashlib.sha256(csr.encode()).digest())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:NONCE_CHARACTERS]
