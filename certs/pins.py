"""Pinned roots: a client context that trusts the one root whose SHA-256 is known, and has never seen it.

A TLS library verifies with certificates, not with hashes. But the server can deliver the root itself, at the end of
the chain that it presents (`ServerTls(presented_roots=…)`): whoever delivered it, the certificate with the pinned
hash *is* the root. So OpenSSL is given a step in front of its own verification, inside the one handshake: find that
certificate among those presented, make it the only trusted one, and verify chain, times, purpose and host name as
always. The context itself trusts nobody, so whatever goes wrong in that step, the handshake fails; no byte of
application data passes before it has succeeded.
"""

import ctypes
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any, Final

from certs.errors import CertificateError
from certs.identities import Identity
from certs.openssl import TlsContext, context_address, library
from certs.tls import HTTP_1_1, client_context_without_roots

MAX_PRESENTED_CERTIFICATES = 16
"""Certificates of a presented chain that are looked at."""

_SELF_SIGNED_IN_CHAIN: Final = 19
_PIN = re.compile(r"[0-9a-f]{64}", re.ASCII)
_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def pinned_context(
    root_sha256: str, *, identity: Identity | None = None, alpn: Sequence[str] = (HTTP_1_1,)
) -> TlsContext:
    """A context for dialling out that trusts only the root with this SHA-256 (64 hexadecimal digits, of its DER).

    Raises:
        CertificateError: the pin is malformed, or this interpreter's OpenSSL cannot be reached.
    """
    pin = checked_pin(root_sha256)
    context = client_context_without_roots(identity=identity, alpn=alpn)
    functions = library(context)
    if functions is None:
        msg = "a root cannot be pinned with this Python interpreter: give ca_file instead of root_sha256"
        raise CertificateError(msg)
    verification = _VERIFY(_Verification(_declared(functions), pin))
    functions.SSL_CTX_set_cert_verify_callback(context_address(context), verification, None)
    setattr(context, "_pinned_verification", verification)  # noqa: B010 -- the callback must live as long
    return context


def checked_pin(root_sha256: str) -> str:
    """The pin in its one form: 64 lower-case hexadecimal digits; colons between bytes are left out.

    Raises:
        CertificateError: it is no SHA-256.
    """
    pin = root_sha256.lower().replace(":", "")
    if not _PIN.fullmatch(pin):
        msg = "root_sha256 is 64 hexadecimal digits, as `openssl x509 -in root.pem -noout -fingerprint -sha256` says"
        raise CertificateError(msg)
    return pin


class _Verification:
    """What OpenSSL calls in place of its verification, which it does itself once the root is found (1 is success)."""

    def __init__(self, functions: Any, pin: str) -> None:
        self._functions = functions
        self._pin = pin

    def __call__(self, store_context: int, _: object) -> int:
        root = self._presented_root(store_context)
        if root is None:
            self._functions.X509_STORE_CTX_set_error(store_context, _SELF_SIGNED_IN_CHAIN)
            return 0
        trusted = self._functions.OPENSSL_sk_new_null()
        try:
            self._functions.OPENSSL_sk_push(trusted, root)
            self._functions.X509_STORE_CTX_set0_trusted_stack(store_context, trusted)
            return int(self._functions.X509_verify_cert(store_context) == 1)
        finally:
            self._functions.OPENSSL_sk_free(trusted)

    def _presented_root(self, store_context: int) -> int | None:
        presented = self._functions.X509_STORE_CTX_get0_untrusted(store_context)
        count = self._functions.OPENSSL_sk_num(presented)
        for position in range(min(count, MAX_PRESENTED_CERTIFICATES)):
            certificate: int = self._functions.OPENSSL_sk_value(presented, position)
            if hmac.compare_digest(hashlib.sha256(self._der(certificate)).hexdigest(), self._pin):
                return certificate
        return None

    def _der(self, certificate: int) -> bytes:
        length = self._functions.i2d_X509(certificate, None)
        if length <= 0:
            return b""
        buffer = ctypes.create_string_buffer(length)
        self._functions.i2d_X509(certificate, ctypes.byref(ctypes.cast(buffer, ctypes.c_void_p)))
        return buffer.raw


def _declared(functions: Any) -> Any:
    """The functions with their C types: a pointer that is taken for an int would lose its upper half."""
    pointer = ctypes.c_void_p
    _declare(functions.SSL_CTX_set_cert_verify_callback, None, pointer, _VERIFY, pointer)
    _declare(functions.X509_STORE_CTX_get0_untrusted, pointer, pointer)
    _declare(functions.X509_STORE_CTX_set0_trusted_stack, None, pointer, pointer)
    _declare(functions.X509_STORE_CTX_set_error, None, pointer, ctypes.c_int)
    _declare(functions.X509_verify_cert, ctypes.c_int, pointer)
    _declare(functions.i2d_X509, ctypes.c_int, pointer, pointer)
    _declare(functions.OPENSSL_sk_num, ctypes.c_int, pointer)
    _declare(functions.OPENSSL_sk_value, pointer, pointer, ctypes.c_int)
    _declare(functions.OPENSSL_sk_new_null, pointer)
    _declare(functions.OPENSSL_sk_push, ctypes.c_int, pointer, pointer)
    _declare(functions.OPENSSL_sk_free, None, pointer)
    return functions


def _declare(function: Any, result: Any, *arguments: Any) -> None:
    function.restype = result
    function.argtypes = list(arguments)
