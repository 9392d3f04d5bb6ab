"""The TLS policy, and the client contexts that take no more: who dials out without a certificate, and trusts a file.

Apart from `certs.tls`, whose page says what the policy is, so that a command which makes one request does not load
everything that reads and makes certificates.
"""

import ssl
from collections.abc import Sequence
from pathlib import Path

from certs.errors import CertificateError
from certs.openssl import TlsContext, reach

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; those of TLS 1.3 are all AEAD with ephemeral keys."""
_CLASSICAL = "X25519:P-256:P-384"
_HYBRID_SINCE = (3, 5)
GROUPS = f"?*X25519MLKEM768/*{_CLASSICAL}" if ssl.OPENSSL_VERSION_INFO >= _HYBRID_SINCE else _CLASSICAL
"""Of the key exchange, best first. Where OpenSSL has it (3.5 and newer), both sides agree on X25519 together with
ML-KEM-768 (draft-ietf-tls-ecdhe-mlkem), so that what is recorded today cannot be read by a quantum computer of later. A
key for X25519 goes along at once (`*`), so that a peer of an older OpenSSL costs no further round trip; a build without
ML-KEM passes over it (`?`; `man 3 SSL_CTX_set1_groups_list`)."""
HTTP_1_1 = "http/1.1"


def anonymous_client_context(ca_file: Path | None = None, *, alpn: Sequence[str] = (HTTP_1_1,)) -> TlsContext:
    """A context for dialling out without an identity: trusts the roots in `ca_file`, or else the public CAs.

    Raises:
        CertificateError: the file cannot be read.
    """
    context = context_by_policy(ssl.PROTOCOL_TLS_CLIENT, alpn)
    trust_authorities(context, ca_file)
    return context


def context_by_policy(protocol: int, alpn: Sequence[str]) -> TlsContext:
    """A context that trusts nobody and presents nothing yet."""
    context = TlsContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    openssl = reach(context)
    if openssl is not None:
        openssl.set_groups(context, GROUPS)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def trust_authorities(context: TlsContext, ca_file: Path | None) -> None:
    """Trust the roots in a file, or else the public CAs.

    Raises:
        CertificateError: the file cannot be read.
    """
    if ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return
    try:
        context.load_verify_locations(cafile=str(ca_file))
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror if not isinstance(error, ssl.SSLError) else "it holds no PEM certificates"
        msg = f"cannot use the CA file {ca_file}: {reason}"
        raise CertificateError(msg) from error
