"""TLS: the one policy, contexts for clients and servers, and replacing a server's identity and roots while it runs.

Policy: TLS 1.2 and 1.3; AEAD ciphers with ephemeral elliptic-curve key exchange only; X25519 (together with ML-KEM-768
where both sides have OpenSSL 3.5), P-256, P-384; the server's order of ciphers; no compression, no renegotiation, no
tickets, no resumption. Every client context verifies chain and host name; there is no way to ask for less.
"""

import os
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from cryptography import x509

from certs.chains import certificates_to_pem
from certs.errors import CertificateError
from certs.identities import Identity
from certs.openssl import OpenSsl, TlsContext, reach
from certs.tls_policy import CIPHERS, GROUPS, HTTP_1_1, context_by_policy, trust_authorities

__all__ = ["CIPHERS", "GROUPS", "HTTP_1_1", "ClientCertificates", "ServerTls", "TlsContext", "client_context"]

ClientCertificates = Literal["none", "optional", "required"]

_VERIFY_MODE = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


def client_context(
    roots: Iterable[x509.Certificate] | None = None,
    *,
    ca_file: Path | None = None,
    identity: Identity | None = None,
    alpn: Sequence[str] = (HTTP_1_1,),
) -> TlsContext:
    """A context for dialling out: trusts `roots`, or those in `ca_file`, or, with neither, the public CAs.

    `identity` is presented to servers that ask for one. For a root known only by its hash see `certs.pins`.

    Raises:
        CertificateError: both `roots` and `ca_file`, an empty list of roots, or a file that cannot be read.
    """
    if roots is not None and ca_file is not None:
        msg = "give roots or a CA file, not both"
        raise CertificateError(msg)
    context = client_context_without_roots(identity=identity, alpn=alpn)
    if roots is not None:
        _trust(context, tuple(roots))
    else:
        trust_authorities(context, ca_file)
    return context


def client_context_without_roots(*, identity: Identity | None = None, alpn: Sequence[str] = (HTTP_1_1,)) -> TlsContext:
    """A context for dialling out that trusts nobody: every handshake fails until it is told whom to trust.

    Raises:
        CertificateError: the identity cannot be used for TLS.
    """
    context = context_by_policy(ssl.PROTOCOL_TLS_CLIENT, alpn)
    if identity is not None:
        load_identity(context, identity)
    return context


class ServerTls:
    """A server's TLS: pass `context` wherever an TLS context is taken, and `swap` what it presents and trusts.

    `presented_roots` are sent after the chain, for clients that know only a root's hash.

    Raises:
        CertificateError: client certificates are asked for without roots to verify them with.
    """

    def __init__(
        self,
        identity: Identity,
        client_roots: Iterable[x509.Certificate] = (),
        client_certificates: ClientCertificates = "none",
        *,
        alpn: Sequence[str] = (HTTP_1_1,),
        presented_roots: Sequence[x509.Certificate] = (),
    ) -> None:
        self._client_certificates: ClientCertificates = client_certificates
        self._alpn = tuple(alpn)
        roots = tuple(client_roots)
        self.context = self._build(identity, roots, presented_roots)
        self._openssl = _server_openssl(self.context)
        if self._openssl is None:
            self._current = self.context
            self.context.sni_callback = self._use_current

    def swap(
        self,
        identity: Identity,
        client_roots: Iterable[x509.Certificate] = (),
        *,
        presented_roots: Sequence[x509.Certificate] = (),
    ) -> None:
        """Present `identity` and trust `client_roots`, and nothing else, in every handshake from now on.

        Connections that stand are left alone. If anything is wrong with the arguments, nothing changes.

        Raises:
            CertificateError: as the constructor.
        """
        fresh = self._build(identity, tuple(client_roots), presented_roots)
        if self._openssl is None:
            self._current = fresh
            return
        load_identity(self.context, identity, presented_roots)
        self._openssl.replace_trust_store(self.context, fresh)

    def _build(
        self, identity: Identity, roots: tuple[x509.Certificate, ...], presented_roots: Sequence[x509.Certificate]
    ) -> TlsContext:
        context = context_by_policy(ssl.PROTOCOL_TLS_SERVER, self._alpn)
        context.num_tickets = 0
        context.verify_mode = _VERIFY_MODE[self._client_certificates]
        if self._client_certificates != "none":
            _trust(context, roots)
        load_identity(context, identity, presented_roots)
        return context

    def _use_current(self, connection: ssl.SSLObject, _name: str | None, _context: TlsContext) -> None:
        connection.context = self._current


def load_identity(context: TlsContext, identity: Identity, presented_roots: Sequence[x509.Certificate] = ()) -> None:
    """Make `context` present `identity`; the key passes through memory only, never through a file system.

    Raises:
        CertificateError: OpenSSL refuses the key or the chain, or the system gives no descriptor at present.
    """
    pem = identity.to_pem() + certificates_to_pem(presented_roots).encode("ascii")
    try:
        descriptor = os.memfd_create("identity", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        msg = "the identity cannot be used for TLS"
        raise CertificateError(msg) from error
    except OSError as error:
        msg = f"the identity cannot be handed to OpenSSL: {error.strerror}"
        raise CertificateError(msg) from error


def _server_openssl(context: TlsContext) -> OpenSsl | None:
    """Turn resumption off; where that cannot be done, TLS 1.3 alone and transports of the standard kind remain."""
    openssl = reach(context)
    if openssl is not None and openssl.turn_session_cache_off(context):
        return openssl
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    setattr(context, "_aiofastnet_force_fallback_ssl", True)  # noqa: B010 -- a foreign switch, unknown to the type
    return None


def _trust(context: TlsContext, roots: tuple[x509.Certificate, ...]) -> None:
    """Trust roots of ours, and be as strict below them as newer Pythons are; others' CAs are not always so clean."""
    if not roots:
        msg = "there are no roots to verify certificates with"
        raise CertificateError(msg)
    context.load_verify_locations(cadata=certificates_to_pem(roots))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
