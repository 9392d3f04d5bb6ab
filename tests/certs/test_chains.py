"""Certificates that the library reads in part only: each is refused as any other, by one kind of error."""

from base64 import encodebytes
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from certs.chains import CertificateChain, certificate_from_der, certificates_from_pem, spiffe_id_of
from certs.errors import CertificateError

KEY = ec.generate_private_key(ec.SECP256R1())
ALTERNATIVE_NAMES = x509.ObjectIdentifier("2.5.29.17")
EDI_PARTY_NAME = bytes.fromhex("3006a50481026162")


def certificate(*extensions: x509.ExtensionType) -> bytes:
    builder = x509.CertificateBuilder(
        subject_name=x509.Name([]),
        issuer_name=x509.Name([]),
        public_key=KEY.public_key(),
        serial_number=7,
        not_valid_before=datetime(2020, 1, 1, tzinfo=UTC),
        not_valid_after=datetime(2040, 1, 1, tzinfo=UTC),
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_version_that_there_is_not():
    version_3, version_10 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")
    der = certificate().replace(version_3, version_10)
    pem = f"-----BEGIN CERTIFICATE-----\n{encodebytes(der).decode()}-----END CERTIFICATE-----\n"
    for read in (
        lambda: certificate_from_der(der),
        lambda: CertificateChain.from_der([der]),
        lambda: certificates_from_pem(pem),
    ):
        with pytest.raises(CertificateError):
            read()


def test_a_name_of_a_kind_that_is_not_known():
    der = certificate(x509.UnrecognizedExtension(ALTERNATIVE_NAMES, EDI_PARTY_NAME))
    with pytest.raises(CertificateError, match="exactly one URI"):
        spiffe_id_of(certificate_from_der(der))
