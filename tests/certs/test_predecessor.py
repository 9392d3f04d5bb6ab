"""The word of an earlier identity: for one challenge, by one key."""

import pytest

from certs.errors import TokenError
from certs.identities import Identity
from certs.predecessor import read_predecessor, sign_predecessor
from tests.support.identities import TRUST_DOMAIN, IdentityKit

NONCE = "0" * 32


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def identity(kit: IdentityKit) -> Identity:
    return kit.issue_node()


def test_a_word(identity):
    word = read_predecessor(sign_predecessor(identity, NONCE), nonce=NONCE, trust_domain=TRUST_DOMAIN)
    assert word.serial == identity.serial
    word.verify(identity.chain.leaf.public_key())


def test_another_key(identity, kit: IdentityKit):
    word = read_predecessor(sign_predecessor(identity, NONCE), nonce=NONCE, trust_domain=TRUST_DOMAIN)
    with pytest.raises(TokenError):
        word.verify(kit.issue_node().chain.leaf.public_key())


@pytest.mark.parametrize(("nonce", "domain"), [("1" * 32, TRUST_DOMAIN), (NONCE, "other.test")])
def test_another_challenge_or_control_plane(identity, nonce, domain):
    with pytest.raises(TokenError):
        read_predecessor(sign_predecessor(identity, NONCE), nonce=nonce, trust_domain=domain)


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 5000])
def test_garbage(text):
    with pytest.raises(TokenError):
        read_predecessor(text, nonce=NONCE, trust_domain=TRUST_DOMAIN)
