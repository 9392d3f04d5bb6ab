"""What is asked for, kept on the disk before it is asked: a key, its signing request, and a sealing key.

Whoever loses the answer, or is killed, asks again with the same request and is answered the same.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.keyfiles import PrivateKey, generate_key, key_from_pem, key_to_pem, read_secret, write_secret
from node_agent.identity.sealed_secrets import new_sealing_key
from trunkline.runtime.logs import Logger
from trunkline.runtime.secret import Secret


@dataclass(slots=True)
class Attempt:
    """One attempt to get an identity. `nonce_at` is the wall time (seconds) at which the nonce was given out."""

    key: PrivateKey
    csr: str
    sealing_key: Secret
    nonce: str | None = None
    nonce_at: float = 0.0

    def made(self, identity: Identity) -> bool:
        """Whether this identity came of the attempt, which is over then."""
        return self.key.public_key() == identity.chain.leaf.public_key()


class AttemptFile:
    """The file of one attempt. Its methods block on the disk, so that callers run them in a thread."""

    def __init__(self, path: Path, log: Logger) -> None:
        self._path = path
        self._log = log

    def load(self) -> Attempt | None:
        """Return the attempt under way, or None; one that is damaged is begun anew."""
        if not self._path.exists():
            return None
        try:
            document = json.loads(read_secret(self._path))
            return Attempt(
                key=key_from_pem(document["key"].encode("ascii")),
                csr=document["csr"],
                sealing_key=Secret(document["sealing_key"]),
                nonce=document["nonce"],
                nonce_at=float(document["nonce_at"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, CertificateError):
            self._log.warning("identity.attempt_damaged", file=str(self._path), consequence="it begins anew")
            return None

    def begin(self) -> Attempt:
        """Make an attempt, durably.

        Raises:
            KeyFileError: the file system refuses.
        """
        key = generate_key()
        attempt = Attempt(key, build_csr(key), new_sealing_key())
        self.save(attempt)
        return attempt

    def save(self, attempt: Attempt) -> None:
        """Store the attempt as it is now.

        Raises:
            KeyFileError: the file system refuses.
        """
        document = {
            "key": key_to_pem(attempt.key).decode("ascii"),
            "csr": attempt.csr,
            "sealing_key": attempt.sealing_key.reveal(),
            "nonce": attempt.nonce,
            "nonce_at": attempt.nonce_at,
        }
        write_secret(self._path, json.dumps(document).encode())

    def drop(self) -> None:
        """Forget the attempt.

        Raises:
            OSError: the file system refuses.
        """
        self._path.unlink(missing_ok=True)
