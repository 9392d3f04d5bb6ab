"""A node renews what a rotation ends: its certificate, or its listen token alone; spread, or at once."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest

from certs.fingerprints import sha256_hex
from certs.keyfiles import generate_key
from certs.keyring import token_key
from certs.tokens import TokenKind
from certs.trust import Retirement, TrustDocument, TrustVerdict, sign_trust_document
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.identity.rotation_watch import RotationWatch
from node_agent.identity.trust_in_force import TrustInForce
from tests.support.identities import IdentityKit
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import Logger
from trunkline.runtime.secret import Secret

VIRTUAL_TIME = True


class Fixture:
    def __init__(self, kit: IdentityKit, directory: Path, log: Logger) -> None:
        self.kit = kit
        self.sequence = 0
        identity = kit.issue_node()
        node = NodeIdentity(
            identity=identity,
            node_id="nd-one",
            node="vm-1",
            workspace_id="ws-finance",
            workspace="finance",
            name_suffix="trunk.internal",
            listen_token=Secret(kit.listen_token(identity)),
            sealing_key=Secret("x"),
        )
        self.trust = TrustInForce(directory, ManualClock(now=kit.now), log)
        self.publish()
        self.asked: list[tuple[str, float]] = []
        self.watch = RotationWatch(
            credentials=Credentials(node, IdentityStore(directory)),
            trust=self.trust,
            renew_certificate=lambda: self._note("certificate"),
            renew_token=lambda: self._note("token"),
            rng=random.Random(1),
            log=log,
        )

    def publish(self, **members) -> None:
        self.sequence += 1
        document: dict[str, Any] = {
            "trust_domain": self.kit.trust_domain,
            "sequence": self.sequence,
            "issued_at": int(self.kit.now),
            "roots": self.kit.roots,
            "token_keys": self.kit.keyring.keys,
        } | members
        self.trust.take(sign_trust_document(TrustDocument(**document), self.kit.control_plane))

    def _note(self, what: str) -> None:
        self.asked.append((what, asyncio.get_running_loop().time()))

    @property
    def root(self) -> str:
        return sha256_hex(self.kit.roots[0])

    @property
    def key(self) -> str:
        return self.kit.token_key.key_id


@pytest.fixture
def node(tmp_path: Path, log: Logger):
    (tmp_path / "state").mkdir()
    return lambda: Fixture(IdentityKit(tmp_path), tmp_path / "state", log)


async def test_it_says_what_it_stands_on(node):
    fixture = node()
    assert fixture.watch.standing() == {"certificate_root": fixture.root, "listen_token_key": fixture.key}


async def test_without_a_rotation_nothing_is_asked_for(node):
    fixture = node()
    fixture.watch.look()
    fixture.publish()
    await asyncio.sleep(100_000)
    assert fixture.asked == []


@pytest.mark.parametrize(
    ("members", "asked"),
    [
        ({"roots": "root"}, "certificate"),
        ({"token_keys": "key"}, "token"),
        ({"roots": "root", "token_keys": "key"}, "certificate"),
    ],
)
async def test_what_is_to_be_left_is_left_within_the_time_given(node, members, asked):
    fixture = node()
    named = {member: frozenset({getattr(fixture, kind)}) for member, kind in members.items()}
    fixture.publish(retirement=Retirement(**named, renew_within_seconds=300))
    await asyncio.sleep(301)
    [(what, at)] = fixture.asked
    assert (what, 0 < at <= 300) == (asked, True)


async def test_documents_that_come_meanwhile_put_nothing_off(node):
    """Each revocation, and each node that is deleted, makes one."""
    fixture = node()
    retirement = Retirement(token_keys=frozenset({fixture.key}), renew_within_seconds=300)
    began = asyncio.get_running_loop().time()
    fixture.publish(retirement=retirement)
    due = fixture.watch.renewal_due_at
    for _ in range(100):
        fixture.publish(retirement=retirement)
    assert fixture.watch.renewal_due_at == due
    await asyncio.sleep(301)
    assert fixture.asked == [("token", due)]
    assert due is not None
    assert began < due <= began + 300
    fixture.publish(retirement=Retirement(token_keys=frozenset({fixture.key}), renew_within_seconds=5))
    await asyncio.sleep(5)
    assert len(fixture.asked) == 2, "what was asked for, and has not come, is asked for again"


async def test_less_time_that_a_later_document_gives_holds(node):
    fixture = node()
    for within in (86_400, 5):
        fixture.publish(retirement=Retirement(token_keys=frozenset({fixture.key}), renew_within_seconds=within))
    await asyncio.sleep(5)
    assert len(fixture.asked) == 1


async def test_a_rotation_that_is_rolled_back_in_time_asks_for_nothing(node):
    fixture = node()
    fixture.publish(retirement=Retirement(token_keys=frozenset({fixture.key}), renew_within_seconds=300))
    fixture.publish()
    await asyncio.sleep(301)
    assert fixture.asked == []


async def test_what_is_gone_is_renewed_at_once(node, tmp_path: Path):
    fixture = node()
    fixture.publish(token_keys=[token_key(generate_key().public_key())])
    await asyncio.sleep(0.001)
    assert [what for what, _ in fixture.asked] == ["token"]
    (tmp_path / "other").mkdir()
    fixture.publish(roots=IdentityKit(tmp_path / "other").roots)
    await asyncio.sleep(0.001)
    assert [what for what, _ in fixture.asked] == ["token", "certificate"]


async def test_a_key_that_was_left_cuts_nothing_and_one_that_was_revoked_does(node):
    fixture = node()
    claims = fixture.kit.verifier().verify(fixture.kit.call_token(), TokenKind.CALL, fixture.kit.now)
    assert fixture.trust.verdict(claims) is None
    left = Retirement(left_token_keys=frozenset({fixture.key}), renew_within_seconds=1)
    fixture.publish(token_keys=(), retirement=left)
    assert fixture.trust.verdict(claims) is None
    fixture.publish(token_keys=())
    assert fixture.trust.verdict(claims) == TrustVerdict(False, "key", fixture.key)
