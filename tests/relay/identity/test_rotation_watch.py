"""A relay renews what a rotation ends: within the time that the document gives, or at once where it is too late."""

import asyncio
import random
from typing import Any

import pytest

from certs.fingerprints import sha256_hex
from certs.trust import Retirement, TrustDocument, TrustStore, sign_trust_document
from relay.identity.own_identity import OwnIdentity
from relay.identity.rotation_watch import RotationWatch
from tests.support.identities import IdentityKit
from trunkline.runtime.logs import get_logger

VIRTUAL_TIME = True


class Fixture:
    def __init__(self, kit: IdentityKit, tmp_path, **members) -> None:
        document: dict[str, Any] = {
            "trust_domain": kit.trust_domain,
            "sequence": 1,
            "issued_at": int(kit.now),
            "roots": kit.roots,
            "token_keys": kit.keyring.keys,
        } | members
        self.store = TrustStore()
        self.store.replace(sign_trust_document(TrustDocument(**document), kit.control_plane), kit.now)
        self.identity = OwnIdentity(kit.issue_relay(), tmp_path / "identity.pem")
        self.watch = RotationWatch(
            identity=self.identity, store=self.store, rng=random.Random(1), log=get_logger("test")
        )
        self.asked_at: list[float] = []
        self.loop = asyncio.get_running_loop()

    def look(self) -> None:
        self.watch.look(lambda: self.asked_at.append(self.loop.time()))


def retiring(kit: IdentityKit, within: int) -> Retirement:
    return Retirement(roots=frozenset({sha256_hex(kit.roots[0])}), renew_within_seconds=within)


@pytest.fixture
def kit(tmp_path) -> IdentityKit:
    return IdentityKit(tmp_path)


async def test_it_says_the_root_that_it_stands_on(kit: IdentityKit, tmp_path):
    assert Fixture(kit, tmp_path).watch.root_id == sha256_hex(kit.roots[0])


async def test_without_a_rotation_nothing_is_asked_for(kit: IdentityKit, tmp_path):
    fixture = Fixture(kit, tmp_path)
    fixture.look()
    await asyncio.sleep(100_000)
    assert fixture.asked_at == []


async def test_a_root_that_is_to_be_left_is_left_within_the_time_given(kit: IdentityKit, tmp_path):
    fixture = Fixture(kit, tmp_path, retirement=retiring(kit, 300))
    began = fixture.loop.time()
    fixture.look()
    due = fixture.watch.renewal_due_at
    for _ in range(100):
        fixture.look()  # a document each, and none puts it off
    await asyncio.sleep(301)
    [asked_at] = fixture.asked_at
    assert asked_at == due
    assert 0 < asked_at - began <= 300


async def test_closed_it_asks_for_nothing(kit: IdentityKit, tmp_path):
    fixture = Fixture(kit, tmp_path, retirement=retiring(kit, 300))
    fixture.look()
    fixture.watch.close()
    await asyncio.sleep(301)
    assert fixture.asked_at == []


async def test_under_a_root_that_is_gone_it_renews_at_once(kit: IdentityKit, tmp_path):
    (tmp_path / "other").mkdir()
    other = IdentityKit(tmp_path / "other", now=kit.now)
    fixture = Fixture(kit, tmp_path)
    fixture.store.replace(
        sign_trust_document(
            TrustDocument(
                trust_domain=kit.trust_domain,
                sequence=2,
                issued_at=int(kit.now),
                roots=other.roots,
                token_keys=(),
                retirement=Retirement(renew_within_seconds=300),
            ),
            kit.control_plane,
        ),
        kit.now,
    )
    assert fixture.watch.root_id is None
    fixture.look()
    await asyncio.sleep(0.001)
    assert len(fixture.asked_at) == 1
