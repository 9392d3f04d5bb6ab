"""What the relay presents to those who dial it, and whose client certificates it accepts; replaced while it runs."""

from cryptography import x509

from certs.errors import CertificateError
from certs.identities import Identity
from certs.tls import ServerTls, TlsContext
from certs.trust import TrustStore
from relay.identity.own_identity import OwnIdentity
from relay.settings import CertificateSettings
from trunkline.runtime.logs import Logger


class ServingTls:
    """The TLS of the relay's port: its SVID, or a public certificate; SVIDs of the trust domain are accepted."""

    def __init__(self, own: OwnIdentity, store: TrustStore, public: CertificateSettings | None, *, log: Logger) -> None:
        """Load what is to be presented.

        Raises:
            CertificateError: the public certificate's files are unusable.
        """
        self._own = own
        self._store = store
        self._public_settings = public
        self._log = log
        self._public = load_public(public)
        self._tls = ServerTls(self._presented(), store.keyring.roots, "optional")
        own.subscribe(lambda _: self._swap())

    @property
    def context(self) -> TlsContext:
        """For the listening socket; it stays the same object whatever is swapped behind it."""
        return self._tls.context

    @property
    def dns_name(self) -> str | None:
        """The first DNS name of the certificate that is presented."""
        try:
            names = self._presented().chain.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return None
        return next(iter(names.get_values_for_type(x509.DNSName)), None)

    @property
    def not_after(self) -> float:
        """When the certificate that is presented ends (seconds since the epoch)."""
        return self._presented().not_after

    def roots_changed(self) -> None:
        """Accept client certificates under the roots that are trusted now, and no others."""
        self._swap()

    def reload(self) -> None:
        """Read the public certificate's files again; if they are unusable, the old one stays."""
        try:
            self._public = load_public(self._public_settings)
        except CertificateError as error:
            self._log.error("certificate.not_reloaded", reason=str(error))
            return
        self._swap()

    def _presented(self) -> Identity:
        return self._public if self._public is not None else self._own.current

    def _swap(self) -> None:
        try:
            self._tls.swap(self._presented(), self._store.keyring.roots)
        except CertificateError as error:
            self._log.error("certificate.not_swapped", reason=str(error))


def load_public(settings: CertificateSettings | None) -> Identity | None:
    """Return the public certificate that the settings name, or None if the relay's own SVID is to be presented.

    Raises:
        CertificateError: the files are missing, damaged, readable by others, or do not belong together.
    """
    return Identity.load_pair(settings.chain_file, settings.key_file) if settings is not None else None
