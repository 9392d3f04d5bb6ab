"""Keys and certificates of the emulated clouds, made at the first start and kept in files: for DEVELOPMENT ONLY."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certs.chains import certificates_from_pem, certificates_to_pem
from certs.keyfiles import read_secret, write_secret
from trunkline.runtime.files import write_atomic

KEY_BITS = 2048
YEARS = timedelta(days=3650)


@dataclass(frozen=True, slots=True)
class DocumentSigner:
    """A key that signs documents, with its certificate."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate


def load_or_make_rsa(path: Path) -> rsa.RSAPrivateKey:
    """The RSA key in the file, or a new one that is put there."""
    if path.exists():
        # Its checks of an RSA key take as long as making one; this file was written below, and nobody else may.
        key = serialization.load_pem_private_key(read_secret(path), password=None, unsafe_skip_rsa_key_validation=True)
        if isinstance(key, rsa.RSAPrivateKey):
            return key
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    write_secret(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return key


def load_or_make_signer(directory: Path, name: str, host: str | None) -> DocumentSigner:
    """A signer under a root of its own (`<name>-roots.pem`), as server `host`; or, without one, a self-signed one."""
    key = load_or_make_rsa(directory / f"{name}-key.pem")
    certificate_file, roots_file = directory / f"{name}-certificate.pem", directory / f"{name}-roots.pem"
    if not certificate_file.exists():
        signer, root = make_chain(key, host)
        write_atomic(roots_file, certificates_to_pem([root]).encode(), mode=0o644)
        write_atomic(certificate_file, certificates_to_pem([signer]).encode(), mode=0o644)
    return DocumentSigner(key, certificates_from_pem(certificate_file.read_bytes())[0])


def make_chain(key: rsa.RSAPrivateKey, host: str | None) -> tuple[x509.Certificate, x509.Certificate]:
    """A certificate for the key, and its root, which without a host is itself."""
    if host is None:
        alone = _builder("CN=Emulated region", key.public_key()).issuer_name(_name("CN=Emulated region"))
        certificate = alone.sign(key, hashes.SHA256())
        return certificate, certificate
    root_key = ec.generate_private_key(ec.SECP256R1())
    root = (
        _builder("CN=Emulated document root", root_key.public_key())
        .issuer_name(_name("CN=Emulated document root"))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        _builder(f"CN={host}", key.public_key())
        .issuer_name(root.subject)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    return signer, root


def _builder(name: str, key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + YEARS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _name(text: str) -> x509.Name:
    return x509.Name.from_rfc4514_string(text)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
