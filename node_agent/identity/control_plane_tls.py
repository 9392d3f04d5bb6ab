"""The TLS to the control plane, trusted as the settings say: by a CA file, by a root's hash, or by the public CAs."""

from dataclasses import dataclass
from pathlib import Path

from certs.identities import Identity
from certs.pins import pinned_context
from certs.tls import TlsContext, client_context


@dataclass(frozen=True, slots=True)
class ControlPlaneTls:
    """Makes contexts for requests to one control plane."""

    ca_file: Path | None = None
    root_sha256: str | None = None

    def context(self, identity: Identity | None = None) -> TlsContext:
        """Return a context that presents `identity`.

        Raises:
            CertificateError: the CA file, the pin or the identity cannot be used.
        """
        if self.root_sha256 is not None:
            return pinned_context(self.root_sha256, identity=identity)
        return client_context(ca_file=self.ca_file, identity=identity)
