import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.authority import Authority
from certs.chains import CertificateChain, certificates_from_pem, verify_chain
from certs.errors import CertificateError
from certs.identities import Identity, build_csr
from certs.issuance import make_svid
from certs.keyfiles import generate_key, load_key
from certs.signing import LocalSigningKey, PublicKey
from certs.spiffe import control_plane_id, node_id, relay_id
from tests.support.identities import TRUST_DOMAIN

NOW = 1_800_000_000.0
NODE = node_id(TRUST_DOMAIN, "ws-1", "nd-1")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kit") / "authority"


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    return Authority.create(directory, TRUST_DOMAIN, now=NOW)


def issue(authority: Authority, **options: float) -> CertificateChain:
    return authority.issue_node(build_csr(generate_key()), NODE, now=NOW, **options)


T = TypeVar("T", bound=x509.ExtensionType)


def extension(certificate: x509.Certificate, kind: type[T]) -> tuple[T, bool]:
    found = certificate.extensions.get_extension_for_class(kind)
    return found.value, found.critical


def test_files_of_an_authority(authority: Authority, directory: Path) -> None:
    names = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert names == {
        "root-key.pem": 0o600, "issuing-key.pem": 0o600,
        "root.pem": 0o644, "roots.pem": 0o644, "issuing.pem": 0o644,
    }  # fmt: skip
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert [path.name for path in directory.parent.iterdir()] == ["authority"]


def test_creating_twice_is_refused(authority: Authority, directory: Path) -> None:
    with pytest.raises(CertificateError, match="exists already"):
        Authority.create(directory, TRUST_DOMAIN, now=NOW)


def test_a_directory_that_cannot_be_made_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="cannot create the authority"):
        Authority.create(tmp_path / "missing" / "authority", TRUST_DOMAIN, now=NOW)
    with pytest.raises(CertificateError, match="trust domain"):
        Authority.create(tmp_path / "authority", "Not A Domain", now=NOW)
    assert list(tmp_path.iterdir()) == []


def test_loading_needs_no_root_key(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a", TRUST_DOMAIN, now=NOW)
    (tmp_path / "a" / "root-key.pem").unlink()
    loaded = Authority.load(tmp_path / "a", TRUST_DOMAIN)
    assert verify_chain(issue(loaded), loaded.roots, NOW) == NODE


def test_loading_what_is_damaged(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a", TRUST_DOMAIN, now=NOW)
    key = (tmp_path / "a" / "issuing-key.pem").read_bytes()
    (tmp_path / "a" / "issuing-key.pem").write_bytes((tmp_path / "a" / "root-key.pem").read_bytes())
    with pytest.raises(CertificateError, match="does not belong"):
        Authority.load(tmp_path / "a", TRUST_DOMAIN)
    (tmp_path / "a" / "issuing-key.pem").write_bytes(key)
    (tmp_path / "a" / "issuing-key.pem").chmod(0o644)
    with pytest.raises(CertificateError, match="chmod 600"):
        Authority.load(tmp_path / "a", TRUST_DOMAIN)
    (tmp_path / "a" / "issuing.pem").unlink()
    with pytest.raises(CertificateError, match="cannot read"):
        Authority.load(tmp_path / "a", TRUST_DOMAIN)


def test_openssl_is_strict_and_content(authority: Authority, directory: Path, tmp_path: Path) -> None:
    key = generate_key()
    chain = authority.issue_relay(build_csr(key), relay_id(TRUST_DOMAIN, "rl-1"), ["relay.example"], now=NOW)
    (tmp_path / "leaf.pem").write_text(chain.pem)
    for purpose in ("sslserver", "sslclient"):
        command = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-attime", str(int(NOW))]
        command += ["-verify_hostname", "relay.example", "-CAfile", str(directory / "roots.pem")]
        command += ["-untrusted", str(directory / "issuing.pem"), str(tmp_path / "leaf.pem")]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr


def test_profile_of_every_certificate(authority: Authority) -> None:
    leaf, issuing = issue(authority).certificates
    root = authority.roots[0]
    for certificate, issuer in ((leaf, issuing), (issuing, root), (root, root)):
        own, _ = extension(certificate, x509.SubjectKeyIdentifier)
        assert own == x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
        above, _ = extension(certificate, x509.AuthorityKeyIdentifier)
        assert above.key_identifier == extension(issuer, x509.SubjectKeyIdentifier)[0].digest
        assert extension(certificate, x509.BasicConstraints)[1], "critical"
        assert extension(certificate, x509.KeyUsage)[1], "critical"
        assert certificate.not_valid_before_utc.timestamp() == NOW - 300
        assert certificate.serial_number.bit_length() > 64
    assert extension(root, x509.BasicConstraints)[0] == x509.BasicConstraints(ca=True, path_length=None)
    assert extension(issuing, x509.BasicConstraints)[0] == x509.BasicConstraints(ca=True, path_length=0)
    assert extension(leaf, x509.BasicConstraints)[0] == x509.BasicConstraints(ca=False, path_length=None)
    usages, _ = extension(leaf, x509.ExtendedKeyUsage)
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names, _ = extension(leaf, x509.SubjectAlternativeName)
    assert list(names) == [x509.UniformResourceIdentifier(str(NODE))]
    assert leaf.not_valid_after_utc.timestamp() == NOW + 86400


def greedy_csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Asks for the control plane's name, a foreign host, and to be a CA."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "control-plane")])
    names: list[x509.GeneralName] = [
        x509.UniformResourceIdentifier(str(control_plane_id(TRUST_DOMAIN))),
        x509.DNSName("bank.example"),
    ]
    builder = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_of_a_request_only_the_key_is_taken(authority: Authority) -> None:
    key = generate_key()
    chain = authority.issue_node(greedy_csr(key), NODE, now=NOW)
    assert chain.leaf.public_key() == key.public_key()
    assert chain.spiffe_id == NODE
    names, _ = extension(chain.leaf, x509.SubjectAlternativeName)
    assert not names.get_values_for_type(x509.DNSName)
    assert not extension(chain.leaf, x509.BasicConstraints)[0].ca
    assert "control-plane" not in chain.leaf.subject.rfc4514_string()


def csr_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_requests_that_are_refused(authority: Authority) -> None:
    good = build_csr(generate_key())
    request = x509.load_pem_x509_csr(good.encode()).public_bytes(Encoding.DER)
    forged = request[:-4] + bytes([request[-4] ^ 1]) + request[-3:]
    loaded = x509.load_der_x509_csr(forged)
    for bad in (
        loaded.public_bytes(Encoding.PEM), csr_of(rsa.generate_private_key(65537, 2048)),
        csr_of(ec.generate_private_key(ec.SECP384R1())), build_csr(ed25519.Ed25519PrivateKey.generate()),
        b"", b"garbage", good[:200], good + "x" * 20_000, "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", "\ud800",
    ):  # fmt: skip
        with pytest.raises(CertificateError):
            authority.issue_node(bad, NODE, now=NOW)


def test_names_come_from_the_caller_and_must_fit_the_role(authority: Authority) -> None:
    csr = build_csr(generate_key())
    for wrong in (relay_id(TRUST_DOMAIN, "rl-1"), control_plane_id(TRUST_DOMAIN), node_id("other.test", "w", "n")):
        with pytest.raises(CertificateError, match="is not the id of a node"):
            authority.issue_node(csr, wrong, now=NOW)
    with pytest.raises(CertificateError, match="is not the id of a relay"):
        authority.issue_relay(csr, NODE, ["a.example"], now=NOW)


@pytest.mark.parametrize(
    "names",
    [[], ["UPPER.example"], ["a..b"], ["a b"], ["-a.example"], ["*"], ["*.*.example"], ["a.*.example"], ["é.example"],
     ["a" * 64 + ".example"], ["a.example."], ["127.0.0.1/8"], [f"a{n}.example" for n in range(17)], ["a\x00b"], [""]],
)  # fmt: skip
def test_dns_names_are_checked(authority: Authority, names: list[str]) -> None:
    with pytest.raises(CertificateError):
        authority.issue_relay(build_csr(generate_key()), relay_id(TRUST_DOMAIN, "rl-1"), names, now=NOW)


def test_lifetimes_have_bounds(authority: Authority) -> None:
    for seconds in (0, -1, 91 * 86400, float("inf"), float("nan")):
        with pytest.raises(CertificateError, match="lives at most"):
            issue(authority, lifetime_seconds=seconds)
    late = authority.not_after - 100
    chain = authority.issue_node(build_csr(generate_key()), NODE, now=late)
    assert chain.not_after == authority.not_after
    with pytest.raises(CertificateError, match=r"issuing CA has expired \(20\d\d-.*: set this machine's clock right"):
        authority.issue_node(build_csr(generate_key()), NODE, now=authority.not_after)


def test_chains_are_verified_at_a_time_against_roots(authority: Authority, tmp_path: Path) -> None:
    chain = issue(authority)
    stranger = Authority.create(tmp_path / "stranger", TRUST_DOMAIN, now=NOW)
    assert verify_chain(chain, [*stranger.roots, *authority.roots], NOW) == NODE
    assert verify_chain(chain, authority.roots, NOW - 300) == NODE
    for roots, now in (
        (stranger.roots, NOW), ((), NOW), (authority.roots, NOW + 86401), (authority.roots, NOW - 301),
    ):  # fmt: skip
        with pytest.raises(CertificateError):
            verify_chain(chain, roots, now)
    with pytest.raises(CertificateError, match="not trusted"):
        verify_chain(CertificateChain((chain.leaf,)), authority.roots, NOW)


def test_a_leaf_is_no_authority(authority: Authority) -> None:
    key = generate_key()
    chain = authority.issue_node(build_csr(key), NODE, now=NOW)
    victim = control_plane_id(TRUST_DOMAIN)
    public = generate_key().public_key()
    forged = make_svid(chain.leaf, LocalSigningKey(key), public, victim, now=NOW, lifetime_seconds=60)
    with pytest.raises(CertificateError, match="not trusted"):
        verify_chain(CertificateChain((forged, *chain.certificates)), authority.roots, NOW)


def test_chains_are_bounded(authority: Authority) -> None:
    pem = issue(authority).pem
    for bad in (
        "",
        "garbage",
        pem * 5,
        "x" * 1_000_000,
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ):
        with pytest.raises(CertificateError):
            CertificateChain.from_pem(bad)
    for der in ([], [b""], [b"x"] * 9, [b"x" * 20_000]):
        with pytest.raises(CertificateError):
            CertificateChain.from_der(der)
    with pytest.raises(CertificateError):
        certificates_from_pem(pem * 9)


class _Counting:
    """A signing key that lives elsewhere, as in a hardware module: it signs, and its bytes are not to be had."""

    algorithm = "ES256"

    def __init__(self, path: Path) -> None:
        self._key = LocalSigningKey(load_key(path))
        self.signatures = 0

    def public_key(self) -> PublicKey:
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        self.signatures += 1
        return self._key.sign(message)


def test_the_issuing_key_may_live_elsewhere(tmp_path: Path) -> None:
    Authority.create(tmp_path / "a", TRUST_DOMAIN, now=NOW)
    elsewhere = _Counting(tmp_path / "a" / "issuing-key.pem")
    (tmp_path / "a" / "issuing-key.pem").unlink()
    authority = Authority.load(tmp_path / "a", TRUST_DOMAIN, issuing_key=elsewhere)
    assert verify_chain(issue(authority), authority.roots, NOW) == NODE
    assert elsewhere.signatures == 1


def test_an_identity_is_key_and_chain_in_one_file(authority: Authority, tmp_path: Path) -> None:
    key = generate_key()
    identity = Identity(key, authority.issue_node(build_csr(key), NODE, now=NOW))
    identity.write(tmp_path / "identity.pem")
    assert stat.S_IMODE((tmp_path / "identity.pem").stat().st_mode) == 0o600
    loaded = Identity.load(tmp_path / "identity.pem")
    assert (loaded.spiffe_id, loaded.serial, loaded.not_after) == (NODE, identity.serial, NOW + 86400)
    assert loaded.to_pem() == identity.to_pem()
    assert "PRIVATE" not in repr(loaded)
    assert len(loaded.thumbprint) == 43


def test_key_and_certificate_must_belong_together(authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="does not belong"):
        Identity(generate_key(), issue(authority))
    with pytest.raises(CertificateError, match="no unencrypted PEM private key"):
        Identity.from_pem(b"garbage")
    with pytest.raises(CertificateError, match="cannot read"):
        Identity.load_pair(tmp_path / "missing", tmp_path / "missing")


def test_a_public_certificate_may_have_an_rsa_key(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.fromtimestamp(NOW, UTC))
        .not_valid_after(datetime.fromtimestamp(NOW, UTC) + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    identity = Identity(key, CertificateChain((certificate,)))
    with pytest.raises(CertificateError, match="P-256 or Ed25519"):
        identity.signing_key()
    with pytest.raises(CertificateError, match="exactly one URI"):
        _ = identity.spiffe_id
