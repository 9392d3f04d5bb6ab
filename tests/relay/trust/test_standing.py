"""What one trust document says of credentials: which keys still carry, and which locks hold until when."""

import dataclasses

import pytest

from certs.trust import Retirement, TrustDocument
from relay.trust.credentials import Credential
from relay.trust.standing import NEVER, Standing
from tests.support.identities import NODE_ID, IdentityKit
from tests.support.relay_trust import TrustPress, lock
from trunkline.channel.outcomes import Outcome

NOW = 1_800_000_000


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> TrustDocument:
    current = TrustPress(IdentityKit(tmp_path_factory.mktemp("identities"), now=NOW)).store().current
    assert current is not None
    return current


def test_what_a_key_admitted_goes_on_when_a_rotation_has_left_the_key(document: TrustDocument):
    credential = Credential(None, subject="somebody", ends_at=1e12)
    credential.key_id = "an-old-key"
    refusal = Standing(document, NOW).refusal(credential)
    assert refusal is not None
    assert refusal.outcome is Outcome.REVOKED
    left = dataclasses.replace(document, retirement=Retirement(left_token_keys={"an-old-key"}))
    assert Standing(left, NOW).refusal(credential) is None


def test_it_is_good_until_the_first_lock_ends_and_each_lock_ends_at_its_time(document: TrustDocument):
    locks = (lock("node", "nd-two", expires_at=NOW + 200), lock("node", NODE_ID, expires_at=NOW + 100))
    locked = dataclasses.replace(document, locks=locks)
    assert Standing(locked, NOW).valid_until == NOW + 100
    assert Standing(locked, NOW + 99).refusal_of(node_id=NODE_ID) is not None
    later = Standing(locked, NOW + 100)
    assert later.refusal_of(node_id=NODE_ID) is None
    assert later.refusal_of(node_id="nd-two") is not None
    assert later.valid_until == NOW + 200
    assert Standing(locked, NOW + 200).valid_until == NEVER
