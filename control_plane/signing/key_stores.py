"""Which key store holds which keys: the authority's where the settings say, the token keys always in files."""

from dataclasses import dataclass

from certs.keystores import FileKeys, KeyStore
from certs.pkcs11_keys import Pkcs11Keys
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.phases import SignerKind


@dataclass(frozen=True, slots=True)
class KeyStores:
    """The key stores of this control plane."""

    authority: KeyStore
    tokens: KeyStore

    def of(self, kind: SignerKind | str) -> KeyStore:
        """The store for the keys of a kind of signer."""
        return self.authority if SignerKind(kind) is SignerKind.CA else self.tokens


def key_stores(settings: ControlPlaneSettings) -> KeyStores:
    """Open the key stores.

    Raises:
        CertificateError: the hardware module cannot be used.
    """
    files = FileKeys(settings.state_directory)
    module = settings.authority.pkcs11
    if module is None:
        return KeyStores(files, files)
    return KeyStores(Pkcs11Keys(module.module, module.token_label, module.pin_file), files)
