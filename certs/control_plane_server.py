"""The control plane as a server: what clients ask of its certificate beyond what TLS has asked of it.

TLS tells that an authority which is trusted issued it for the host's name. It does not tell that the certificate is
somebody else's whose names include this one (a relay may have a wildcard), nor that it was revoked or locked since,
which only who holds a trust document can know.

What OpenSSL has taken apart is looked at, so that a command that makes one request loads nothing that reads
certificates.
"""

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from certs.errors import CertificateError
from certs.spiffe import IdentityRole, SpiffeId

if TYPE_CHECKING:
    from certs.trust import CertificateVerdict


def server_serial(transport: asyncio.BaseTransport) -> str:
    """The serial number of the server's certificate, as revocations name it; empty where there is none to see."""
    return str(_shown(transport).get("serialNumber", "")).lower().lstrip("0")


def foreign_server(transport: asyncio.BaseTransport) -> str | None:
    """Why the server is not the control plane, though it was verified: its certificate is a relay's or a node's.

    A certificate that states none of our identities, a public one say, is good: its owner gave it to the server.
    """
    for kind, name in _shown(transport).get("subjectAltName", ()):
        role = _role(name) if kind == "URI" else None
        if role not in (None, IdentityRole.CONTROL_PLANE):
            return f"its certificate is not the control plane's but a {role}'s"
    return None


def ended_server(serial: str, verdict: "CertificateVerdict") -> str | None:
    """Why a certificate is the control plane's no more: the trust document in force revokes or locks it."""
    found = verdict(serial)
    if found is None:
        return None
    return f"its certificate {serial} {'is locked' if found.locked else 'was revoked'}: another may have its key"


def _shown(transport: asyncio.BaseTransport) -> dict[str, Any]:
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    return {} if connection is None else connection.getpeercert() or {}


def _role(uri: str) -> IdentityRole | None:
    try:
        return SpiffeId.parse(uri).role
    except CertificateError:
        return None
