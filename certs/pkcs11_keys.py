"""Keys in a hardware module, by PKCS#11: made inside it, never out of it; this process only asks for signatures.

Needs the extra `pkcs11`. A key is an EC key pair on P-256 whose label is its name. Sessions are opened per signature,
under a lock, since modules differ in what they allow of threads; a signature is some milliseconds at most.
"""

import hashlib
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from certs.errors import KeyFileError
from certs.keyfiles import read_secret
from certs.signing import ES256, PublicKey, SigningKey

_COORDINATE_BYTES = 32


class Pkcs11Keys:
    """A key store in one token of a module."""

    def __init__(self, module: Path, token_label: str, pin_file: Path) -> None:
        """Load the module and find the token.

        Raises:
            KeyFileError: the extra is not installed, the module cannot be loaded, the token is not there, or the
                file with the PIN is missing or readable by others.
        """
        self._pkcs11 = _library()
        self._pin = read_secret(pin_file).decode("utf-8", "replace").strip()
        self._lock = threading.Lock()
        try:
            self._token = self._pkcs11.lib(str(module)).get_token(token_label=token_label)
        except (self._pkcs11.PKCS11Error, OSError, RuntimeError) as error:
            raise KeyFileError(_cannot(f"use the token {token_label!r} of {module}", error)) from None

    def create(self, name: str) -> SigningKey:
        """A new key pair in the token, which signs and can neither be read nor copied."""
        with self._lock:
            try:
                with self._token.open(rw=True, user_pin=self._pin) as session:
                    if self._find(session, name) is not None:
                        msg = f"the token holds a key with the label {name!r} already"
                        raise KeyFileError(msg)
                    self._generate(session, name)
            except self._pkcs11.PKCS11Error as error:
                raise KeyFileError(_cannot(f"make the key {name!r} in the token", error)) from None
        return self.open(name)

    def open(self, name: str) -> SigningKey:
        """The key pair of this label."""
        with self._lock:
            try:
                with self._token.open(user_pin=self._pin) as session:
                    return Pkcs11Key(self, name, self._public(session, name))
            except self._pkcs11.PKCS11Error as error:
                raise KeyFileError(_cannot(f"open the key {name!r} in the token", error)) from None

    def destroy(self, name: str) -> None:
        """Remove both halves from the token."""
        with self._lock:
            try:
                with self._token.open(rw=True, user_pin=self._pin) as session:
                    for found in list(session.get_objects({self._pkcs11.Attribute.LABEL: name})):
                        found.destroy()
            except self._pkcs11.PKCS11Error as error:
                raise KeyFileError(_cannot(f"destroy the key {name!r} in the token", error)) from None

    def sign(self, name: str, digest: bytes) -> bytes:
        """The ECDSA signature of a digest, as DER.

        Raises:
            KeyFileError: the token refuses, or is gone.
        """
        with self._lock:
            try:
                with self._token.open(user_pin=self._pin) as session:
                    private = session.get_key(
                        object_class=self._pkcs11.ObjectClass.PRIVATE_KEY,
                        key_type=self._pkcs11.KeyType.EC,
                        label=name,
                    )
                    raw: bytes = private.sign(digest, mechanism=self._pkcs11.Mechanism.ECDSA)
            except self._pkcs11.PKCS11Error as error:
                raise KeyFileError(_cannot(f"sign with the key {name!r}", error)) from None
        r, s = (int.from_bytes(part, "big") for part in (raw[: len(raw) // 2], raw[len(raw) // 2 :]))
        return encode_dss_signature(r, s)

    def _generate(self, session: Any, name: str) -> None:
        from pkcs11.util.ec import encode_named_curve_parameters

        attribute = self._pkcs11.Attribute
        parameters = session.create_domain_parameters(
            self._pkcs11.KeyType.EC, {attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}, local=True
        )
        parameters.generate_keypair(
            mechanism=self._pkcs11.Mechanism.EC_KEY_PAIR_GEN,
            store=True,
            label=name,
            id=hashlib.sha256(name.encode()).digest()[:16],
            private_template={attribute.SENSITIVE: True, attribute.EXTRACTABLE: False, attribute.SIGN: True},
        )

    def _find(self, session: Any, name: str) -> Any:
        try:
            return session.get_key(
                object_class=self._pkcs11.ObjectClass.PUBLIC_KEY, key_type=self._pkcs11.KeyType.EC, label=name
            )
        except self._pkcs11.NoSuchKey:
            return None

    def _public(self, session: Any, name: str) -> ec.EllipticCurvePublicKey:
        found = self._find(session, name)
        if found is None:
            msg = f"the token holds no key with the label {name!r}"
            raise KeyFileError(msg)
        point = bytes(found[self._pkcs11.Attribute.EC_POINT])
        # The attribute is a DER OCTET STRING around the uncompressed point (PKCS#11 v3.1 section 6.3.3).
        encoded = point[-(2 * _COORDINATE_BYTES + 1) :]
        try:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), encoded)
        except ValueError:
            msg = f"the token's key {name!r} is not on P-256"
            raise KeyFileError(msg) from None


class Pkcs11Key:
    """One key of the token, as certificates and tokens are signed with it."""

    algorithm = ES256

    def __init__(self, keys: Pkcs11Keys, name: str, public: ec.EllipticCurvePublicKey) -> None:
        self._keys = keys
        self._name = name
        self._public = public

    def public_key(self) -> PublicKey:
        """The public half."""
        return self._public

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, as DER."""
        return self._keys.sign(self._name, hashlib.sha256(message).digest())


def _library() -> ModuleType:
    try:
        import pkcs11
    except ImportError:
        msg = "keys in a hardware module need the extra: pip install 'trunkline[pkcs11]'"
        raise KeyFileError(msg) from None
    library: ModuleType = pkcs11
    return library


def _cannot(what: str, error: Exception) -> str:
    """One line without secrets; the library's errors often have no text."""
    return f"cannot {what}: {str(error) or type(error).__name__}"
