"""Peers: the certificate that the other side of a TLS connection proved to hold, read from a transport."""

import asyncio
import ssl
from dataclasses import dataclass, field

from cryptography import x509

from certs.chains import certificate_from_der, spiffe_id_of
from certs.errors import CertificateError
from certs.fingerprints import serial_hex, thumbprint_of_der
from certs.spiffe import SpiffeId


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """A peer's verified leaf.

    `spiffe_id` is None when it states none of ours; `not_after` is in seconds since the epoch; `certificate` is None
    only in descriptions that were not read from one.
    """

    spiffe_id: SpiffeId | None
    serial: str
    thumbprint: str
    not_after: float
    certificate: x509.Certificate | None = field(default=None, compare=False)

    @staticmethod
    def from_der(der: bytes) -> "PeerCertificate":
        """The description of a certificate that somebody has verified.

        Raises:
            CertificateError: it cannot be read.
        """
        certificate = certificate_from_der(der)
        try:
            spiffe_id = spiffe_id_of(certificate)
        except CertificateError:
            spiffe_id = None
        not_after = certificate.not_valid_after_utc.timestamp()
        return PeerCertificate(spiffe_id, serial_hex(certificate), thumbprint_of_der(der), not_after, certificate)


def peer_certificate(transport: asyncio.BaseTransport | None) -> PeerCertificate | None:
    """The certificate that the peer of `transport` proved to hold in a verified handshake.

    For an aiohttp request pass `request.transport`. None when the transport is gone or not TLS, when the peer
    presented nothing, when certificates were not verified, or when one cannot be read.
    """
    connection = transport.get_extra_info("ssl_object") if transport is not None else None
    if connection is None or connection.context.verify_mode == ssl.CERT_NONE:
        return None
    der = connection.getpeercert(binary_form=True)
    if der is None:
        return None
    try:
        return PeerCertificate.from_der(der)
    except CertificateError:
        return None
