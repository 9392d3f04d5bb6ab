"""Identities: a private key with its certificate chain, and the signing request that asks for one."""

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from certs.chains import CertificateChain
from certs.errors import CertificateError, KeyFileError
from certs.keyfiles import PrivateKey, read_public, read_secret, write_secret
from certs.signing import LocalSigningKey
from certs.spiffe import IdentityRole, SpiffeId, control_plane_id, node_id, relay_id, relays_id, workspace_id

__all__ = [
    "Identity",
    "IdentityRole",
    "SpiffeId",
    "build_csr",
    "control_plane_id",
    "node_id",
    "public_key_of_csr",
    "relay_id",
    "relays_id",
    "workspace_id",
]

MAX_CSR_BYTES = 16 * 1024

ServingKey = PrivateKey | rsa.RSAPrivateKey
"""Keys that a TLS server may use; RSA only for a public certificate that its owner brings."""


class Identity:
    """A private key and the certificate chain that belongs to it; neither `repr` nor `str` shows the key."""

    __slots__ = ("_key", "chain")

    def __init__(self, key: ServingKey, chain: CertificateChain) -> None:
        if _spki(key.public_key()) != _spki(chain.leaf.public_key()):
            msg = "the certificate does not belong to the private key"
            raise CertificateError(msg)
        self._key = key
        self.chain = chain

    def __repr__(self) -> str:
        return f"Identity(serial={self.chain.serial!r})"

    @property
    def spiffe_id(self) -> SpiffeId:
        """Who this is.

        Raises:
            CertificateError: the certificate states no SPIFFE id of ours (a public serving certificate).
        """
        return self.chain.spiffe_id

    @property
    def serial(self) -> str:
        """The leaf's serial number, as revocations name it."""
        return self.chain.serial

    @property
    def thumbprint(self) -> str:
        """The leaf's `x5t#S256`."""
        return self.chain.thumbprint

    @property
    def not_after(self) -> float:
        """When the leaf ends to be valid, in seconds since the epoch."""
        return self.chain.not_after

    def signing_key(self) -> LocalSigningKey:
        """The key as a signer of assertions and trust documents.

        Raises:
            CertificateError: the key is RSA.
        """
        if isinstance(self._key, rsa.RSAPrivateKey):
            msg = "an identity that signs needs a P-256 or Ed25519 key"
            raise CertificateError(msg)
        return LocalSigningKey(self._key)

    def to_pem(self) -> bytes:
        """Key, leaf and issuers as one PEM text; for `write_secret` and TLS contexts only."""
        key = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return key + self.chain.pem.encode("ascii")

    @staticmethod
    def from_pem(pem: bytes, source: str = "the identity") -> "Identity":
        """The identity in `pem`: one unencrypted private key and one chain, in any order; `source` names it.

        Raises:
            CertificateError: either is missing or unreadable, or they do not belong together.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            msg = f"{source} holds no unencrypted PEM private key"
            raise KeyFileError(msg) from error
        if not isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
            msg = f"{source} holds a private key of a kind that is not supported"
            raise KeyFileError(msg)
        try:
            return Identity(key, CertificateChain.from_pem(pem))
        except CertificateError as error:
            msg = f"{source}: {error}"
            raise CertificateError(msg) from error

    def write(self, path: Path) -> None:
        """Store key and chain together in one file (0600, atomic), so that they can never disagree.

        Raises:
            KeyFileError: the file system refuses.
        """
        write_secret(path, self.to_pem())

    @staticmethod
    def load(path: Path) -> "Identity":
        """The identity stored at `path`.

        Raises:
            CertificateError: missing, readable by others, or damaged.
        """
        return Identity.from_pem(read_secret(path), str(path))

    @staticmethod
    def load_pair(chain_path: Path, key_path: Path) -> "Identity":
        """An identity whose chain and key are in two files, as public CAs' clients leave them.

        Raises:
            CertificateError: missing, key readable by others, damaged, or not belonging together.
        """
        chain = read_public(chain_path)
        return Identity.from_pem(read_secret(key_path) + b"\n" + chain, f"{key_path} with {chain_path}")


def build_csr(key: PrivateKey) -> str:
    """A signing request (PEM) that states the public key and nothing else: names are the issuer's to give."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    return builder.sign(key, algorithm).public_bytes(serialization.Encoding.PEM).decode("ascii")


def public_key_of_csr(csr_pem: str | bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a signing request, after checking that the request is signed by that key.

    Names and extensions that the request asks for are not looked at.

    Raises:
        CertificateError: not a request, longer than `MAX_CSR_BYTES`, a key that is not P-256, or a false signature.
    """
    raw = csr_pem.encode("utf-8", "surrogatepass") if isinstance(csr_pem, str) else csr_pem
    if len(raw) > MAX_CSR_BYTES:
        msg = f"the signing request is longer than {MAX_CSR_BYTES} bytes"
        raise CertificateError(msg)
    try:
        csr = x509.load_pem_x509_csr(raw)
        key, signed = csr.public_key(), csr.is_signature_valid
    except Exception as error:  # the library raises several types for malformed keys
        msg = "this is not a PEM certificate signing request"
        raise CertificateError(msg) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        msg = "the signing request must state a P-256 key"
        raise CertificateError(msg)
    if not signed:
        msg = "the signing request is not signed by its own key"
        raise CertificateError(msg)
    return key


def _spki(key: object) -> bytes:
    if not hasattr(key, "public_bytes"):
        return b""
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der
