"""Fingerprints of certificates and keys: the forms in which one credential names another."""

import hashlib

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certs.encoding import encode_base64url


def thumbprint(certificate: x509.Certificate) -> str:
    """Base64url SHA-256 of the certificate's DER: the `x5t#S256` of RFC 8705 section 3.1 (43 characters)."""
    return thumbprint_of_der(certificate.public_bytes(Encoding.DER))


def thumbprint_of_der(der: bytes) -> str:
    """The same, of a certificate that is already DER."""
    return encode_base64url(hashlib.sha256(der).digest())


def sha256_hex(certificate: x509.Certificate) -> str:
    """Lower-case hexadecimal SHA-256 of the certificate's DER: the form in which configuration pins a root."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def serial_hex(certificate: x509.Certificate) -> str:
    """The serial number as lower-case hexadecimal without leading zeros: the form in which revocations name it."""
    return format(certificate.serial_number, "x")
