from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from certs.errors import CertificateError
from relay.control_plane.trust_adoption import TrustAdoption
from relay.metrics import RelayMetrics
from relay.trust.credentials import Credential
from relay.trust.in_force import TrustInForce
from relay.trust.standing import Standing
from relay.trust.use_kinds import UseKind
from relay.trust.uses import Uses
from tests.support.identities import NODE_ID, IdentityKit
from tests.support.relay_trust import TrustPress, lock
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Links:
    """What adoption asks of the registry."""

    def __init__(self) -> None:
        self.uses = Uses()
        self.pushed: list[str] = []

    def push_trust(self, document: str) -> None:
        self.pushed.append(document)


class Call:
    def __init__(self, trust: TrustInForce, kind: UseKind = UseKind.EXCHANGE) -> None:
        self.trust = trust
        self.kind = kind
        self.towards: tuple[str, str] | None = None
        self.cuts: list[tuple[Outcome, Standing]] = []

    def cut(self, outcome: Outcome) -> None:
        self.cuts.append((outcome, self.trust.standing))


class Fixture:
    def __init__(self, kit: IdentityKit) -> None:
        self.press = TrustPress(kit)
        self.store = self.press.store()
        self.clock = ManualClock(now=kit.now)
        self.trust = TrustInForce(self.store, self.clock, cache_entries=10)
        self.links = Links()
        self.metrics = RelayMetrics(CollectorRegistry())
        self.reported: list[tuple[str, dict[str, Any]]] = []
        self.roots_changes = 0
        self.adoption = TrustAdoption(
            store=self.store,
            trust=self.trust,
            registry=self.links,
            own_root=lambda: None,
            roots_changed=self._roots_changed,
            metrics=self.metrics,
            report=lambda kind, **members: self.reported.append((kind, members)),
            clock=self.clock,
            log=get_logger("test.trust"),
        )

    def _roots_changed(self) -> None:
        self.roots_changes += 1

    def call(self, kind: UseKind = UseKind.EXCHANGE, **named: str) -> Call:
        credential = Credential(None, subject="somebody", ends_at=1e12)
        for name, value in named.items():
            setattr(credential, name, value)
        call = Call(self.trust, kind)
        self.links.uses.begin(call, credential)
        return call


@pytest.fixture
def relay(kit: IdentityKit) -> Fixture:
    return Fixture(kit)


def test_a_new_document_is_in_force_and_goes_down_the_links(relay: Fixture):
    document = relay.press.document()
    assert relay.adoption.adopt(document)
    assert relay.adoption.sequence == 2
    assert relay.links.pushed == [document]
    assert relay.reported == [("trust", {"sequence": 2, "root": None, "cut": 0, "cut_milliseconds": 0, "cuts": []})]
    assert relay.roots_changes == 0


def test_the_same_again_changes_nothing(relay: Fixture):
    document = relay.press.document()
    relay.adoption.adopt(document)
    standing = relay.trust.standing
    assert not relay.adoption.adopt(document)
    assert relay.trust.standing is standing
    assert relay.links.pushed == [document]


def test_an_older_or_foreign_document_is_refused(relay: Fixture, tmp_path):
    old = relay.press.document()
    relay.adoption.adopt(relay.press.document())
    stranger = TrustPress(IdentityKit(tmp_path)).document(sequence=99)
    for document in (old, stranger, "garbage", ""):
        with pytest.raises(CertificateError):
            relay.adoption.adopt(document)
    assert relay.adoption.sequence == 3


@pytest.mark.parametrize(
    ("named", "revoked"),
    [
        ({"token_id": "jti-1"}, {"token_ids": ["jti-1"]}),
        ({"certificate_serial": "abc"}, {"certificates": ["abc"]}),
        ({"node_id": NODE_ID}, {"nodes": [NODE_ID]}),
        ({"workspace_id": "ws-finance"}, {"workspaces": ["ws-finance"]}),
    ],
)
def test_what_is_revoked_is_cut_and_counted(relay: Fixture, named, revoked):
    calls = [relay.call(**named) for _ in range(3)]
    bystander = relay.call(token_id="other", certificate_serial="other", node_id="other", workspace_id="other")
    relay.adoption.adopt(relay.press.document(**revoked))
    assert bystander.cuts == []
    # Each was cut when the new document was in force already.
    assert [call.cuts for call in calls] == [[(Outcome.REVOKED, relay.trust.standing)]] * 3
    assert relay.metrics.cuts.of("revoked").count == 3
    cuts = [members for kind, members in relay.reported if kind == "cut"]
    assert sum(members["count"] for members in cuts) == 3
    assert relay.reported[-1][1]["cut"] == 3


def test_a_call_is_cut_for_its_own_token_whichever_node_it_goes_to(relay: Fixture):
    call = relay.call(token_id="jti-1")
    call.towards = (NODE_ID, "ws-finance")
    relay.adoption.adopt(relay.press.document(token_ids=["jti-1"]))
    assert [outcome for outcome, _ in call.cuts] == [Outcome.REVOKED]


def test_what_is_locked_is_cut(relay: Fixture):
    call = relay.call(node_id=NODE_ID)
    relay.adoption.adopt(relay.press.document(locks=(lock("node", NODE_ID),)))
    assert [outcome for outcome, _ in call.cuts] == [Outcome.LOCKED]
    assert relay.metrics.cuts.of("locked").count == 1


def test_a_report_says_what_was_cut_by_which_cause(relay: Fixture):
    relay.call(UseKind.SENDER, token_id="jti-1")
    for kind in (UseKind.STREAM, UseKind.STREAM, UseKind.EXCHANGE):
        relay.call(kind, token_id="jti-1")
    relay.call(UseKind.EXCHANGE, node_id=NODE_ID)
    relay.adoption.adopt(relay.press.document(token_ids=["jti-1"], locks=(lock("node", NODE_ID),)))
    [(_, said)] = [entry for entry in relay.reported if entry[0] == "trust"]
    assert said["cut"] == 5
    assert sorted(said["cuts"], key=lambda cut: cut["cause"]) == [
        {"cause": "lock", "kind": "node", "id": NODE_ID, "exchanges": 1},
        {"cause": "revocation", "kind": "token", "id": "jti-1", "links": 1, "streams": 2, "exchanges": 1},
    ]


@pytest.mark.parametrize("kind", ["node", "workspace"])
def test_a_lock_cuts_calls_towards_a_node_and_leaves_its_link(relay: Fixture, kind: str):
    listener = relay.call(UseKind.LISTENER, node_id=NODE_ID, workspace_id="ws-finance")
    call = relay.call(UseKind.STREAM, token_id="of-the-workspace")
    call.towards = (NODE_ID, "ws-finance")
    relay.adoption.adopt(relay.press.document(locks=(lock(kind, {"node": NODE_ID}.get(kind, "ws-finance")),)))
    assert [outcome for outcome, _ in call.cuts] == [Outcome.LOCKED]
    assert listener.cuts == []


@pytest.mark.parametrize(("kind", "member"), [("certificate", "certificate_serial"), ("token", "token_id")])
def test_a_lock_on_the_listeners_own_credential_cuts_its_link(relay: Fixture, kind: str, member: str):
    listener = relay.call(UseKind.LISTENER, node_id=NODE_ID, **{member: "abc"})
    relay.adoption.adopt(relay.press.document(locks=(lock(kind, "abc"),)))
    assert [outcome for outcome, _ in listener.cuts] == [Outcome.LOCKED]


def test_a_token_whose_key_is_gone_is_cut(relay: Fixture):
    call = relay.call(key_id="an-old-key")
    relay.adoption.adopt(relay.press.document())
    assert [outcome for outcome, _ in call.cuts] == [Outcome.REVOKED]
    assert relay.reported[-1][1]["cuts"] == [{"cause": "revocation", "kind": "key", "id": "an-old-key", "exchanges": 1}]
