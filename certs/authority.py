"""The certificate authority: a root, an issuing CA below it, and the SVIDs that it issues.

Names come from the caller, that is from the control plane's own record, never from a signing request; of the request
only the public key is taken, after its signature was checked. The directory of an authority holds

    root.pem  roots.pem  issuing.pem            certificates of the first root, as it was made
    root-key.pem  issuing-key.pem               private keys, 0600; the root's may be moved off the machine
"""

import re
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from certs.chains import CertificateChain, certificates_from_pem, certificates_to_pem
from certs.errors import CertificateError, KeyFileError
from certs.identities import public_key_of_csr
from certs.issuance import make_issuing, make_root, make_svid
from certs.keyfiles import generate_key, load_key, read_public, sync_directory, write_key, write_public
from certs.signing import LocalSigningKey, SigningKey
from certs.spiffe import IdentityRole, SpiffeId, control_plane_id

DEFAULT_NODE_LIFETIME_SECONDS = 86400
DEFAULT_RELAY_LIFETIME_SECONDS = 7 * 86400
DEFAULT_CONTROL_PLANE_LIFETIME_SECONDS = 30 * 86400
MAX_SVID_LIFETIME_SECONDS = 90 * 86400
"""No SVID lives longer, whatever the caller asks."""
MAX_DNS_NAMES = 16

_DNS_NAME = re.compile(
    r"(?:\*\.)?(?=.{1,253}\Z)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*",
    re.ASCII,
)


class Authority:
    """Issues SVIDs of one trust domain with the issuing CA's key."""

    def __init__(
        self,
        trust_domain: str,
        issuing: x509.Certificate,
        issuing_key: SigningKey,
        roots: Sequence[x509.Certificate],
        crosses: Sequence[x509.Certificate] = (),
    ) -> None:
        """`crosses` lead from the root to its predecessors; they go along in every chain (see `certs.succession`).

        Raises:
            CertificateError: certificate and key do not belong together, or the trust domain is malformed.
        """
        control_plane_id(trust_domain)
        if issuing.public_key() != issuing_key.public_key():
            msg = "the issuing CA's certificate does not belong to its key"
            raise CertificateError(msg)
        self.trust_domain = trust_domain
        self.roots = tuple(roots)
        self._issuing = issuing
        self._key = issuing_key
        self._crosses = tuple(crosses)

    @staticmethod
    def create(directory: Path, trust_domain: str, *, now: float) -> "Authority":
        """Make root and issuing CA and store them in `directory`, which appears complete or not at all.

        Raises:
            CertificateError: the directory exists already, cannot be written, or the trust domain is malformed.
        """
        control_plane_id(trust_domain)
        if directory.exists():
            msg = f"{directory} exists already: it may hold an authority"
            raise KeyFileError(msg)
        unfinished = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}")
        try:
            unfinished.mkdir(mode=0o700)
            _write_new_authority(unfinished, trust_domain, now)
            unfinished.rename(directory)
            sync_directory(directory.parent)
        except OSError as error:
            msg = f"cannot create the authority in {directory}: {error.strerror}"
            raise KeyFileError(msg) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return Authority.load(directory, trust_domain)

    @staticmethod
    def load(directory: Path, trust_domain: str, *, issuing_key: SigningKey | None = None) -> "Authority":
        """The authority stored in `directory`; `issuing_key` takes the place of the key file when it lives elsewhere.

        Raises:
            CertificateError: a file is missing, damaged, or too open.
        """
        issuing = _read_certificates(directory / "issuing.pem")[0]
        roots = _read_certificates(directory / "roots.pem")
        key = issuing_key or LocalSigningKey(load_key(directory / "issuing-key.pem"))
        return Authority(trust_domain, issuing, key, roots)

    @property
    def issuing(self) -> x509.Certificate:
        """The certificate of the issuing CA."""
        return self._issuing

    @property
    def not_after(self) -> float:
        """When the issuing CA ends to be valid, in seconds since the epoch."""
        return self._issuing.not_valid_after_utc.timestamp()

    def issue_node(
        self,
        csr_pem: str | bytes,
        spiffe_id: SpiffeId,
        lifetime_seconds: float = DEFAULT_NODE_LIFETIME_SECONDS,
        *,
        now: float,
    ) -> CertificateChain:
        """The SVID of a node.

        Raises:
            CertificateError: not a node's id, a foreign trust domain, a lifetime out of range, or a bad request.
        """
        self._check(spiffe_id, IdentityRole.NODE, lifetime_seconds)
        return self._issue(public_key_of_csr(csr_pem), spiffe_id, (), lifetime_seconds, now)

    def issue_relay(
        self,
        csr_pem: str | bytes,
        spiffe_id: SpiffeId,
        dns_names: Sequence[str],
        lifetime_seconds: float = DEFAULT_RELAY_LIFETIME_SECONDS,
        *,
        now: float,
    ) -> CertificateChain:
        """The SVID of a relay, which is its serving certificate too: `dns_names` are those of the relay's record.

        Raises:
            CertificateError: as `issue_node`; or `dns_names` is empty, too long, or holds what is no DNS name.
        """
        self._check(spiffe_id, IdentityRole.RELAY, lifetime_seconds)
        names = checked_dns_names(dns_names)
        return self._issue(public_key_of_csr(csr_pem), spiffe_id, names, lifetime_seconds, now)

    def issue_control_plane(
        self,
        csr_pem: str | bytes,
        dns_names: Sequence[str],
        lifetime_seconds: float = DEFAULT_CONTROL_PLANE_LIFETIME_SECONDS,
        *,
        now: float,
    ) -> CertificateChain:
        """The SVID of the control plane itself, which serves its API and signs trust documents.

        Raises:
            CertificateError: as `issue_relay`.
        """
        spiffe_id = control_plane_id(self.trust_domain)
        self._check(spiffe_id, IdentityRole.CONTROL_PLANE, lifetime_seconds)
        names = checked_dns_names(dns_names)
        return self._issue(public_key_of_csr(csr_pem), spiffe_id, names, lifetime_seconds, now)

    def _check(self, spiffe_id: SpiffeId, role: IdentityRole, lifetime_seconds: float) -> None:
        if spiffe_id.role is not role or spiffe_id.trust_domain != self.trust_domain:
            msg = f"{spiffe_id} is not the id of a {role.value} of {self.trust_domain}"
            raise CertificateError(msg)
        if not 0 < lifetime_seconds <= MAX_SVID_LIFETIME_SECONDS:
            msg = f"an SVID lives at most {MAX_SVID_LIFETIME_SECONDS} seconds"
            raise CertificateError(msg)

    def _issue(
        self,
        public: ec.EllipticCurvePublicKey,
        spiffe_id: SpiffeId,
        dns_names: Sequence[str],
        lifetime_seconds: float,
        now: float,
    ) -> CertificateChain:
        leaf = make_svid(
            self._issuing,
            self._key,
            public,
            spiffe_id,
            dns_names=dns_names,
            now=now,
            lifetime_seconds=lifetime_seconds,
        )
        return CertificateChain((leaf, self._issuing, *self._crosses))


def checked_dns_names(dns_names: Sequence[str]) -> tuple[str, ...]:
    """`dns_names`, each a lower-case DNS name (a leading `*.` label is allowed), 1 to `MAX_DNS_NAMES` of them.

    Raises:
        CertificateError: otherwise.
    """
    names = tuple(dict.fromkeys(dns_names))
    if not 0 < len(names) <= MAX_DNS_NAMES:
        msg = f"a serving certificate carries 1 to {MAX_DNS_NAMES} DNS names"
        raise CertificateError(msg)
    for name in names:
        if not _DNS_NAME.fullmatch(name):
            msg = f"{name!r} is not a lower-case DNS name"
            raise CertificateError(msg)
    return names


def _write_new_authority(directory: Path, trust_domain: str, now: float) -> None:
    root_key, issuing_key = generate_key(), generate_key()
    root = make_root(LocalSigningKey(root_key), trust_domain, now=now)
    issuing = make_issuing(root, LocalSigningKey(root_key), issuing_key.public_key(), trust_domain, now=now)
    write_key(directory / "root-key.pem", root_key)
    write_key(directory / "issuing-key.pem", issuing_key)
    write_public(directory / "root.pem", certificates_to_pem([root]).encode("ascii"))
    write_public(directory / "roots.pem", certificates_to_pem([root]).encode("ascii"))
    write_public(directory / "issuing.pem", certificates_to_pem([issuing]).encode("ascii"))


def _read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    return certificates_from_pem(read_public(path))
