"""Succession: whoever trusts an old root believes what stands on the new one, by the line of cross certificates."""

import asyncio
import ssl
from itertools import pairwise
from pathlib import Path

import pytest

from certs.chains import MAX_CHAIN_CERTIFICATES, MAX_CROSS_CERTIFICATES, CertificateChain, root_of, verify_chain
from certs.errors import CertificateError, TrustError
from certs.fingerprints import sha256_hex
from certs.identities import Identity, build_csr
from certs.keyfiles import generate_key
from certs.keyring import token_key
from certs.pins import pinned_context
from certs.signing import LocalSigningKey
from certs.spiffe import node_id
from certs.succession import (
    AuthorityCertificates,
    first_authority,
    live_crosses,
    root_is_gone,
    root_is_retiring,
    succeed,
)
from certs.tls import ServerTls, TlsContext, client_context
from certs.trust import Retirement, TrustDocument, TrustStore, sign_trust_document, verify_trust_document

NOW = 1_795_000_000.0
TRUST_DOMAIN = "trunkline.test"
BOTH_LOOPS = True


class Line:
    """Authorities, each the successor of the one before."""

    def __init__(self, generations: int, now: float = NOW) -> None:
        self.now = now
        self.keys = [(LocalSigningKey(generate_key()), LocalSigningKey(generate_key())) for _ in range(generations)]
        self.authorities = [first_authority(TRUST_DOMAIN, *self.keys[0], now=now)]
        for before, after in pairwise(self.keys):
            self.authorities.append(succeed(self.authorities[-1], before[0], *after, TRUST_DOMAIN, now=now))

    @property
    def roots(self):
        return [authority.root for authority in self.authorities]

    def control_plane(self, generation: int = -1) -> Identity:
        key = generate_key()
        authority = self.authorities[generation].authority(TRUST_DOMAIN, self.keys[generation][1], self.now)
        return Identity(key, authority.issue_control_plane(build_csr(key), ["localhost"], now=self.now))

    def node_chain(self, generation: int = -1) -> CertificateChain:
        authority = self.authorities[generation].authority(TRUST_DOMAIN, self.keys[generation][1], self.now)
        return authority.issue_node(
            build_csr(generate_key()), node_id(TRUST_DOMAIN, "ws-1", "nd-1"), 3600, now=self.now
        )

    def document(self, sequence: int = 2, *generations: int, **changes) -> TrustDocument:
        members = {
            "trust_domain": TRUST_DOMAIN,
            "sequence": sequence,
            "issued_at": int(self.now),
            "roots": [self.roots[generation] for generation in generations or (-1,)],
            "token_keys": [token_key(generate_key().public_key())],
        }
        return TrustDocument(**{**members, **changes})


@pytest.fixture(scope="module")
def line() -> Line:
    import time

    return Line(3, time.time())


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_every_earlier_root_verifies_what_the_newest_issues(line: Line, generation: int):
    chain = line.node_chain()
    assert len(chain.certificates) == 4
    assert verify_chain(chain, [line.roots[generation]], line.now) == node_id(TRUST_DOMAIN, "ws-1", "nd-1")


def test_a_newer_root_does_not_vouch_for_an_older_authority(line: Line):
    with pytest.raises(CertificateError, match="not trusted"):
        verify_chain(line.node_chain(0), [line.roots[1]], line.now)


def test_the_root_of_a_chain_is_the_one_that_signed_its_issuing_authority(line: Line):
    chain = line.node_chain()
    assert root_of(chain, line.roots) == line.roots[2]
    assert root_of(chain, line.roots[:2]) is None


async def handshake(server: ServerTls, client: TlsContext) -> None:
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=server.context)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", port, ssl=client, server_hostname="localhost"
        )
        transport.abort()


@pytest.mark.parametrize("generation", [0, 1, 2])
async def test_tls_is_verified_by_every_earlier_root(line: Line, generation: int):
    await handshake(ServerTls(line.control_plane()), client_context([line.roots[generation]]))


@pytest.mark.parametrize("generation", [0, 1, 2])
async def test_tls_is_verified_by_the_pin_of_every_earlier_root(line: Line, generation: int):
    server = ServerTls(line.control_plane(), presented_roots=line.roots)
    await handshake(server, pinned_context(sha256_hex(line.roots[generation])))


async def test_a_stranger_that_presents_our_cross_certificates_is_not_believed(line: Line):
    stranger = Line(1, line.now)
    theirs = stranger.control_plane()
    forged = Identity(
        theirs._key, CertificateChain((*theirs.chain.certificates[:2], *line.node_chain().certificates[2:]))
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        await handshake(ServerTls(forged), client_context([line.roots[0]]))


def test_a_store_that_slept_through_two_rotations_takes_the_newest_document(line: Line, tmp_path: Path):
    store = TrustStore(tmp_path / "trust")
    assert store.replace(sign_trust_document(line.document(1, 0), line.control_plane(0)), line.now)
    assert store.replace(sign_trust_document(line.document(9, 2), line.control_plane(2)), line.now)
    assert store.keyring.roots == (line.roots[2],)
    with pytest.raises(TrustError, match="older"):
        store.replace(sign_trust_document(line.document(8, 2), line.control_plane(2)), line.now)


def test_what_an_ended_root_signs_is_refused_by_whoever_has_moved_on(line: Line):
    forged = sign_trust_document(line.document(99, 0), line.control_plane(0))
    with pytest.raises(CertificateError):
        verify_trust_document(forged, [line.roots[2]], line.now)


def test_the_line_is_bounded_and_ends_with_the_first_that_expired(line: Line):
    long = Line(MAX_CROSS_CERTIFICATES + 3)
    newest = long.authorities[-1]
    assert len(newest.crosses) == MAX_CROSS_CERTIFICATES
    assert len(long.node_chain().certificates) == MAX_CHAIN_CERTIFICATES
    assert verify_chain(long.node_chain(), [long.roots[2]], NOW)
    assert live_crosses(newest.crosses, NOW + 11 * 365 * 86400) == ()


def test_a_cross_certificate_ends_with_the_root_that_signed_it():
    old = Line(1, NOW)
    later = NOW + 3 * 365 * 86400
    keys = LocalSigningKey(generate_key()), LocalSigningKey(generate_key())
    new = succeed(old.authorities[0], old.keys[0][0], *keys, TRUST_DOMAIN, now=later)
    assert new.crosses[0].not_valid_after_utc == old.roots[0].not_valid_after_utc
    assert new.root.not_valid_after_utc > old.roots[0].not_valid_after_utc


def test_one_that_was_made_by_a_clock_that_was_ahead_is_good_once_that_is_right():
    line = Line(1, NOW)
    line.keys.append((LocalSigningKey(generate_key()), LocalSigningKey(generate_key())))
    made_at = NOW + 86400
    line.authorities.append(succeed(line.authorities[0], line.keys[0][0], *line.keys[1], TRUST_DOMAIN, now=made_at))
    for root in line.roots:
        assert verify_chain(line.node_chain(), [root], NOW)
    assert line.roots[1].not_valid_after_utc > line.roots[0].not_valid_after_utc


def test_a_foreign_key_cannot_vouch(line: Line):
    stranger, root, issuing = (LocalSigningKey(generate_key()) for _ in range(3))
    with pytest.raises(CertificateError, match="does not belong"):
        succeed(line.authorities[0], stranger, root, issuing, TRUST_DOMAIN, now=NOW)


def test_certificates_are_kept_as_json(line: Line):
    for authority in line.authorities:
        assert AuthorityCertificates.from_document(authority.document()) == authority
    for damaged in ({}, {"root": "x", "issuing": "y", "crosses": []}, {"root": 5, "issuing": 6, "crosses": 7}):
        with pytest.raises(CertificateError):
            AuthorityCertificates.from_document(damaged)


def test_what_a_document_says_of_a_certificate(line: Line):
    chain = line.node_chain(1)
    retiring = Retirement(roots=frozenset({sha256_hex(line.roots[1])}), renew_within_seconds=60)
    assert not root_is_retiring(chain, line.document(2, 1, 2))
    assert root_is_retiring(chain, line.document(2, 1, 2, retirement=retiring))
    assert not root_is_gone(chain, line.document(2, 1, 2, retirement=retiring))
    assert root_is_gone(chain, line.document(2, 2))
    assert root_is_retiring(chain, line.document(2, 2))
