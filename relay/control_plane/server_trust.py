"""Why the relay trusts its control plane: public CAs, a CA file, or a root known by its hash."""

from certs.identities import Identity
from certs.pins import pinned_context
from certs.tls import TlsContext, client_context
from relay.settings import ControlPlaneSettings


class ControlPlaneTrust:
    """Makes the TLS to the control plane, with or without an identity of one's own."""

    def __init__(self, settings: ControlPlaneSettings) -> None:
        self._settings = settings

    def tls(self, identity: Identity | None) -> TlsContext:
        """A context that trusts the control plane as the settings say, and presents `identity`.

        Raises:
            CertificateError: the CA file, the pin or the identity is unusable.
        """
        if self._settings.root_sha256 is not None:
            return pinned_context(self._settings.root_sha256, identity=identity)
        return client_context(ca_file=self._settings.ca_file, identity=identity)
