"""Every kind of token against every kind of destination, and what revocations, locks and time do to a decision."""

import dataclasses
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import CollectorRegistry

from certs.encoding import encode_base64url
from certs.identities import Identity
from certs.peers import PeerCertificate
from certs.spiffe import control_plane_id
from certs.tokens import TokenKind
from relay.admission.grants import CONTROL_PLANE, Grant
from relay.admission.links import LinkAdmission
from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import Quotas
from relay.admission.streams import ASSERTION_SECONDS, MAX_GRANTS_PER_TOKEN, Admission
from relay.identity.own_identity import OwnIdentity
from relay.links.listeners import Listener
from relay.metrics import RelayMetrics
from relay.settings import LimitsSettings
from relay.trust.credentials import Credential, Destination, ListenerGrant, Refusal, SenderGrant
from relay.trust.in_force import TrustInForce
from tests.support.identities import NODE, NODE_ID, TRUST_DOMAIN, WORKSPACE, WORKSPACE_ID, IdentityKit
from tests.support.relay_trust import TrustPress, lock
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import ManualClock

HERE = Destination(WORKSPACE, NODE, 80)
PORT = Destination(WORKSPACE, NODE, 9100)
OTHER_NODE = Destination(WORKSPACE, "vm-2", 80)
OTHER_WORKSPACE = Destination("sales", NODE, 80)
NOWHERE = Destination(WORKSPACE, "vm-9", 80)


@pytest.fixture(scope="module")
def kit(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("identities"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("stranger"))


class Listeners:
    """What admission asks of the registry."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, str], Listener] = {}

    def find(self, workspace: str, node: str) -> Listener | None:
        return self.by_name.get((workspace, node))

    def add(self, kit: IdentityKit, workspace_id_: str, node_id: str, workspace: str, node: str) -> Listener:
        spiffe_id = str(kit.node_spiffe_id(workspace_id_, node_id))
        granted = ListenerGrant(
            Credential(None, subject=spiffe_id, ends_at=1e12), workspace_id_, node_id, workspace, node, spiffe_id, "t"
        )
        listener = Listener(granted, "a", 1, owner=None, limits=LimitsSettings())  # type: ignore[arg-type]
        listener.current = True
        self.by_name[workspace, node] = listener
        return listener


class AuditLog:
    """Keeps what was reported."""

    def __init__(self) -> None:
        self.grants: list[Grant] = []
        self.refusals: list[tuple[Outcome, Destination | None, Credential | None]] = []

    def granted(self, grant: Grant) -> None:
        self.grants.append(grant)

    def refused(self, outcome: Outcome, destination: Destination | None, credential: Credential | None) -> None:
        self.refusals.append((outcome, destination, credential))


class Fixture:
    """Admission with two nodes of two workspaces, at the time of the kit."""

    def __init__(self, kit: IdentityKit, tmp_path: Any, *, cache_entries: int = 1000) -> None:
        self.kit = kit
        self.clock = ManualClock(now=kit.now)
        self.press = TrustPress(kit)
        self.store = self.press.store()
        self.trust = TrustInForce(self.store, self.clock, cache_entries=100)
        self.listeners = Listeners()
        self.listener = self.listeners.add(kit, WORKSPACE_ID, NODE_ID, WORKSPACE, NODE)
        self.listeners.add(kit, WORKSPACE_ID, "nd-two", WORKSPACE, "vm-2")
        self.listeners.add(kit, "ws-sales", "nd-three", "sales", NODE)
        self.audit = AuditLog()
        self.metrics = RelayMetrics(CollectorRegistry())
        self.quotas = Quotas()
        self.admission = Admission(
            registry=self.listeners,
            links=LinkAdmission(self.trust, self.clock),
            trust=self.trust,
            quotas=self.quotas,
            assertions=OwnIdentity(kit.issue_relay(), tmp_path / "identity.pem"),
            reports=self.audit,
            metrics=self.metrics,
            clock=self.clock,
            cache_entries=cache_entries,
        )

    def admit(self, token: str | None, destination: Destination = HERE) -> str:
        """`granted`, or the outcome of the refusal."""
        decision = self.admission.admit(token, destination)
        return "granted" if isinstance(decision, Grant) else decision.outcome.metric_label

    def grant(self, token: str | None, destination: Destination = HERE) -> Grant:
        decision = self.admission.admit(token, destination)
        assert isinstance(decision, Grant), decision
        return decision

    def trust_now(self, **changes: Any) -> None:
        self.store.replace(self.press.document(**changes), self.clock.now())
        self.trust.renew()


@pytest.fixture
def relay(kit: IdentityKit, tmp_path) -> Fixture:
    return Fixture(kit, tmp_path)


def tampered(token: str) -> str:
    head, claims, signature = token.split(".")
    return ".".join([head, claims, signature[:-4] + ("AAAA" if signature[-4:] != "AAAA" else "BBBB")])


def unsigned(kit: IdentityKit) -> str:
    header = encode_base64url(json.dumps({"alg": "none", "typ": TokenKind.CALL.value}).encode())
    return f"{header}.{kit.call_token().split('.')[1]}."


def own_assertion(kit: IdentityKit) -> str:
    relay = kit.issue_relay("rl-two")
    claims = kit.verifier().verify(kit.workspace_token(80 + 9020), TokenKind.WORKSPACE, kit.now)
    return kit.assertion_signer(relay).issue(claims, kit.node_spiffe_id(), 9100, now=kit.now).text


TOKENS: dict[str, Callable[[IdentityKit, IdentityKit], str | None]] = {
    "none": lambda kit, _: None,
    "garbage": lambda kit, _: "garbage",
    "empty": lambda kit, _: "",
    "unsigned": lambda kit, _: unsigned(kit),
    "tampered": lambda kit, _: tampered(kit.call_token()),
    "oversized": lambda kit, _: "x" * 5000,
    "of another authority": lambda _, stranger: stranger.call_token(),
    "listen": lambda kit, _: kit.listen_token(kit.issue_node()),
    "assertion": lambda kit, _: own_assertion(kit),
    "call": lambda kit, _: kit.call_token(),
    "call, port 9100": lambda kit, _: kit.call_token("port:9100"),
    "call, read and port": lambda kit, _: kit.call_token("health:read", "port:9100"),
    "call, port 443": lambda kit, _: kit.call_token("health:read", "port:443"),
    "call, another node": lambda kit, _: kit.call_token(
        "health:read", "port:9100", target=kit.node_spiffe_id(WORKSPACE_ID, "nd-two"), node="vm-2"
    ),
    "call, another workspace": lambda kit, _: kit.call_token(
        "health:read", "port:9100", target=kit.node_spiffe_id("ws-sales", "nd-three"), workspace="sales"
    ),
    "call, node without a link": lambda kit, _: kit.call_token(
        "health:read", "port:9100", target=kit.node_spiffe_id(WORKSPACE_ID, "nd-nine"), node="vm-9"
    ),
    "call, the name's former node": lambda kit, _: kit.call_token(
        "health:read", "port:9100", target=kit.node_spiffe_id(WORKSPACE_ID, "nd-former")
    ),
    "workspace": lambda kit, _: kit.workspace_token(9100),
    "workspace, another": lambda kit, _: kit.workspace_token(9100, workspace_id_="ws-sales", workspace="sales"),
    "workspace, its name's former id": lambda kit, _: kit.workspace_token(9100, workspace_id_="ws-former"),
}  # fmt: skip

BAD = dict.fromkeys(["80", "9100", "4040", "443", "vm-2", "sales", "vm-9"], "bad_token")
FOREIGN = dict.fromkeys(BAD, "wrong_audience")

# token kind → destination → decision. Columns: the node's API, two ports, 443, another node of the workspace, a node of
# the same name in another workspace, and a node that has no link (or does not exist).
MATRIX: dict[str, dict[str, str]] = {
    "none": dict.fromkeys(BAD, "no_token"),
    "garbage": BAD,
    "empty": BAD,
    "unsigned": BAD,
    "tampered": BAD,
    "oversized": BAD,
    "of another authority": BAD,
    "listen": BAD,
    "assertion": BAD,
    "call": {
        **FOREIGN, "80": "granted", "9100": "missing_scope", "4040": "missing_scope", "443": "not_implemented",
    },
    "call, port 9100": {
        **FOREIGN, "80": "missing_scope", "9100": "granted", "4040": "missing_scope", "443": "not_implemented",
    },
    "call, read and port": {
        **FOREIGN, "80": "granted", "9100": "granted", "4040": "missing_scope", "443": "not_implemented",
    },
    "call, port 443": {
        **FOREIGN, "80": "granted", "9100": "missing_scope", "4040": "missing_scope", "443": "not_implemented",
    },
    "call, another node": {**FOREIGN, "vm-2": "granted"},
    "call, another workspace": {**FOREIGN, "sales": "granted"},
    "call, node without a link": {**FOREIGN, "vm-9": "no_listener"},
    "call, the name's former node": FOREIGN,
    "workspace": {
        "80": "missing_scope", "9100": "granted", "4040": "missing_scope", "443": "not_implemented",
        "vm-2": "missing_scope", "sales": "wrong_audience", "vm-9": "missing_scope",
    },
    "workspace, another": {**FOREIGN, "sales": "missing_scope"},
    "workspace, its name's former id": {**FOREIGN, "vm-9": "missing_scope"},
}  # fmt: skip

DESTINATIONS = {
    "80": HERE,
    "9100": PORT,
    "4040": Destination(WORKSPACE, NODE, 4040),
    "443": Destination(WORKSPACE, NODE, 443),
    "vm-2": OTHER_NODE,
    "sales": OTHER_WORKSPACE,
    "vm-9": NOWHERE,
}


@pytest.mark.parametrize("column", DESTINATIONS)
@pytest.mark.parametrize("row", MATRIX)
def test_the_whole_matrix(relay: Fixture, stranger: IdentityKit, row: str, column: str):
    token = TOKENS[row](relay.kit, stranger)
    expected = MATRIX[row][column]
    assert relay.admit(token, DESTINATIONS[column]) == expected
    assert relay.admit(token, DESTINATIONS[column]) == expected
    if expected == "granted":
        assert [grant.admitted for grant in relay.audit.grants] == [2]
    else:
        assert [refusal[0].metric_label for refusal in relay.audit.refusals] == [expected] * 2
        assert relay.metrics.admission_refusals.of(expected).count == 2


def test_the_matrix_is_whole():
    assert set(MATRIX) == set(TOKENS)
    assert all(set(row) == set(DESTINATIONS) for row in MATRIX.values())


def test_a_workspace_token_on_a_shared_port_of_a_node_without_a_link(relay: Fixture):
    assert relay.admit(relay.kit.workspace_token(9100), Destination(WORKSPACE, "vm-9", 9100)) == "no_listener"
    foreign = Destination("sales", "vm-9", 9100)
    assert relay.admit(relay.kit.workspace_token(9100), foreign) == "wrong_audience"


def test_a_grant_is_reused_until_the_listener_changes(relay: Fixture):
    token = relay.kit.call_token()
    first = relay.grant(token)
    assert relay.grant(token) is first
    relay.listener.current = False
    del relay.listeners.by_name[WORKSPACE, NODE]
    assert relay.admit(token) == "no_listener"
    newer = relay.listeners.add(relay.kit, WORKSPACE_ID, NODE_ID, WORKSPACE, NODE)
    assert relay.grant(token).listener is newer


def test_one_more_call_is_decided_on_by_what_was_granted_before(relay: Fixture):
    grant = relay.grant(relay.kit.call_token(lifetime_seconds=60))
    assert relay.admission.admit_again(grant) is grant
    assert grant.admitted == 2
    relay.clock.advance(60 + 61)
    assert relay.admission.admit_again(grant) is None, "the token has ended"


def test_what_was_granted_before_says_nothing_once_the_listener_or_the_trust_is_another(relay: Fixture):
    here, there = (
        relay.grant(relay.kit.call_token()),
        relay.grant(relay.kit.workspace_token(9100), Destination(WORKSPACE, "vm-2", 9100)),
    )
    relay.listener.current = False
    assert relay.admission.admit_again(here) is None
    relay.listener.current = True
    assert relay.admission.admit_again(here) is here
    relay.trust_now()
    assert relay.admission.admit_again(here) is None
    assert relay.admission.admit_again(there) is None
    assert (here.admitted, there.admitted) == (2, 1)


def test_a_grant_ends_with_its_token(relay: Fixture):
    token = relay.kit.call_token(lifetime_seconds=60)
    relay.grant(token)
    relay.clock.advance(60 + 59)
    relay.grant(token)
    relay.clock.advance(2)
    assert relay.admit(token) == "expired_token"


def test_a_token_of_the_future_is_refused(relay: Fixture):
    relay.clock.jump(-3600)
    assert relay.admit(relay.kit.call_token()) == "bad_token"


def test_call_tokens_go_to_the_node_themselves(relay: Fixture):
    assert relay.grant(relay.kit.call_token()).assertion is None


def test_workspace_tokens_stay_here_and_an_assertion_goes(relay: Fixture):
    token = relay.kit.workspace_token(9100, 9200)
    first = relay.grant(token, PORT)
    assert first.assertion is not None
    claims = relay.kit.verifier().verify(first.assertion, TokenKind.ASSERTION, relay.kit.now)
    assert claims.audience == str(relay.kit.node_spiffe_id())
    assert claims.expires_at - claims.issued_at <= 60
    assert claims.scopes.ports == {9100}
    assert first.claims is not None
    assert claims.origin_token_id == first.claims.token_id
    relay.clock.advance(ASSERTION_SECONDS - 1)
    assert relay.grant(token, PORT) is first
    relay.clock.advance(2)
    second = relay.grant(token, PORT)
    assert second.assertion not in (None, first.assertion)
    other_port = relay.grant(token, Destination(WORKSPACE, NODE, 9200))
    assert other_port.assertion not in (first.assertion, second.assertion)


def token_id(kit: IdentityKit, token: str) -> str:
    return kit.verifier().verify(token, [TokenKind.CALL, TokenKind.WORKSPACE], kit.now).token_id


@pytest.mark.parametrize("kind", ["token_ids", "nodes", "workspaces"])
def test_a_revocation_ends_a_grant_that_stood(relay: Fixture, kind: str):
    token, other = relay.kit.call_token(), relay.kit.call_token(target=relay.kit.node_spiffe_id(WORKSPACE_ID, "nd-two"))
    relay.grant(token)
    named = {"token_ids": token_id(relay.kit, token), "nodes": NODE_ID, "workspaces": WORKSPACE_ID}[kind]
    relay.trust_now(**{kind: [named]})
    assert relay.admit(token) == "revoked"
    expected = "revoked" if kind == "workspaces" else "granted"
    assert relay.admit(other, OTHER_NODE) == expected
    relay.trust_now()
    relay.grant(token)


@pytest.mark.parametrize("kind", ["token", "node", "workspace"])
def test_a_lock_holds_until_it_ends(relay: Fixture, kind: str):
    token = relay.kit.call_token()
    relay.grant(token)
    named = {"token": token_id(relay.kit, token), "node": NODE_ID, "workspace": WORKSPACE_ID}[kind]
    relay.trust_now(locks=(lock(kind, named, expires_at=relay.clock.now() + 100),))
    assert relay.admit(token) == "locked"
    relay.clock.advance(99)
    assert relay.admit(token) == "locked"
    relay.clock.advance(2)
    relay.grant(token)


@pytest.mark.parametrize("seconds", [600.0, 3e8])
@pytest.mark.parametrize("looked", [True, False])
def test_a_lock_that_had_ended_by_a_clock_that_was_ahead_holds_again(relay: Fixture, seconds: float, looked: bool):
    token = relay.kit.call_token()
    relay.trust_now(locks=(lock("node", NODE_ID, expires_at=relay.clock.now() + 500),))
    assert relay.admit(token) == "locked"
    relay.clock.jump(seconds)
    relay.trust.look(relay.clock.now())
    relay.clock.jump(-seconds)
    if looked:
        relay.trust.look(relay.clock.now())
    assert relay.admit(token) == "locked"


def test_an_assertion_of_a_clock_that_was_ahead_is_sent_no_longer_than_that(relay: Fixture):
    token = relay.kit.workspace_token(9100)
    relay.clock.jump(600.0)
    of_the_future = relay.grant(token, PORT)
    relay.trust.look(relay.clock.now())
    relay.clock.jump(-600.0)
    relay.trust.look(relay.clock.now())
    grant = relay.grant(token, PORT)
    assert grant.assertion not in (None, of_the_future.assertion)
    assert relay.kit.verifier().verify(grant.assertion or "", TokenKind.ASSERTION, relay.clock.now())


def test_a_key_that_is_no_longer_trusted_takes_its_tokens_along(relay: Fixture, stranger: IdentityKit):
    token = relay.kit.call_token()
    granted = relay.grant(token)
    own, relay.press.kit.token_key = relay.kit.token_key, stranger.token_key
    try:
        relay.trust_now()
    finally:
        relay.kit.token_key = own
    assert relay.admit(token) == "bad_token"
    refusal = relay.trust.standing.refusal(granted.credential)
    assert refusal is not None
    assert refusal.outcome is Outcome.REVOKED


def test_the_cache_of_tokens_is_bounded(kit: IdentityKit, tmp_path):
    relay = Fixture(kit, tmp_path, cache_entries=3)
    for _ in range(10):
        relay.grant(kit.call_token())
    assert len(relay.admission._tokens) == 3


def test_what_one_token_was_granted_is_bounded(relay: Fixture):
    token = relay.kit.call_token()
    for number in range(MAX_GRANTS_PER_TOKEN + 10):
        name = f"vm-{number}-again"
        relay.listeners.by_name[WORKSPACE, name] = relay.listener
        relay.grant(token, Destination(WORKSPACE, name, 80))
        assert len(relay.admission._tokens[token].grants) <= MAX_GRANTS_PER_TOKEN


def test_tokens_that_have_expired_are_not_kept(kit: IdentityKit, tmp_path):
    relay = Fixture(kit, tmp_path)
    for _ in range(60):
        relay.grant(kit.call_token(lifetime_seconds=60))
    relay.clock.advance(60 + 61)
    for _ in range(30):
        relay.grant(kit.call_token())
    assert len(relay.admission._tokens) == 30


# Links.


def peer_of(identity: Identity) -> PeerCertificate:
    return PeerCertificate.from_der(identity.chain.leaf.public_bytes(Encoding.DER))


def decide(relay: Fixture, token: str | None, identity: Identity | None) -> str:
    decision = relay.admission.admit_link(token, peer_of(identity) if identity is not None else None)
    if isinstance(decision, Refusal):
        return decision.outcome.metric_label
    return "listener" if isinstance(decision, ListenerGrant) else "sender"


def test_a_listener_needs_its_token_and_its_certificate(relay: Fixture):
    kit, own = relay.kit, relay.kit.issue_node()
    token = kit.listen_token(own)
    assert decide(relay, token, own) == "listener"
    assert decide(relay, token, None) == "no_certificate"
    assert decide(relay, token, kit.issue_node()) == "bad_certificate"
    assert decide(relay, token, kit.issue_node(node="nd-two")) == "bad_certificate"
    assert decide(relay, token, kit.control_plane) == "bad_certificate"
    assert decide(relay, None, own) == "no_token"
    assert decide(relay, kit.listen_token(kit.issue_node(node="nd-two")), own) == "bad_certificate"
    refused = ["no_certificate", *["bad_certificate"] * 3, "no_token", "bad_certificate"]
    assert [outcome.metric_label for outcome, *_ in relay.audit.refusals] == refused, "links too are audited"
    counted = [relay.metrics.link_refusals.of(label).count for label in ("bad_certificate", "no_token")]
    assert counted == [4, 1]


def test_a_token_that_is_bound_to_the_leaf_of_another_node_attaches_nobody(relay: Fixture):
    own = relay.kit.issue_node()
    mixed_up = relay.kit.signer.issue_listen(
        relay.kit.node_spiffe_id(node="nd-two"),
        workspace=WORKSPACE,
        node_name="vm-2",
        certificate_thumbprint=own.thumbprint,
        now=relay.kit.now,
    )
    assert decide(relay, mixed_up.text, own) == "bad_certificate"


def test_a_listeners_grant_says_for_whom_it_listens(relay: Fixture):
    own = relay.kit.issue_node()
    granted = relay.admission.admit_link(relay.kit.listen_token(own), peer_of(own))
    assert isinstance(granted, ListenerGrant)
    assert granted[1:] == (WORKSPACE_ID, NODE_ID, WORKSPACE, NODE, str(own.spiffe_id), own.thumbprint)
    assert granted.credential.certificate_serial == own.serial


def test_who_may_open_a_senders_link(relay: Fixture, stranger: IdentityKit):
    kit = relay.kit
    assert decide(relay, kit.call_token(), None) == "sender"
    assert decide(relay, kit.workspace_token(), None) == "sender"
    assert decide(relay, None, kit.control_plane) == "sender"
    assert decide(relay, None, None) == "no_token"
    assert decide(relay, None, kit.issue_relay()) == "no_token"
    assert decide(relay, None, stranger.issue_relay()) == "no_token"
    assert decide(relay, stranger.call_token(), None) == "bad_token"
    assert decide(relay, own_assertion(kit), None) == "bad_token"
    assert decide(relay, "garbage", kit.control_plane) == "bad_token"


def test_the_control_plane_of_another_trust_domain_opens_no_link(relay: Fixture, tmp_path):
    # Its root may be trusted too, as that of one control plane which takes another's place.
    other = IdentityKit(tmp_path, trust_domain="other.test", now=relay.kit.now)
    assert decide(relay, None, other.control_plane) == "bad_certificate"


@pytest.mark.parametrize("of", [IdentityKit.call_token, IdentityKit.workspace_token])
def test_a_token_that_is_revoked_or_locked_opens_no_senders_link(relay: Fixture, of: Callable[[IdentityKit], str]):
    token = of(relay.kit)
    named = token_id(relay.kit, token)
    relay.trust_now(token_ids=[named])
    assert decide(relay, token, None) == "revoked"
    relay.trust_now(locks=(lock("token", named),))
    assert decide(relay, token, None) == "locked"
    relay.trust_now(workspaces=[WORKSPACE_ID])
    assert decide(relay, token, None) == "revoked"
    relay.trust_now()
    assert decide(relay, token, None) == "sender"


def test_the_senders_grant_names_the_workspace_that_its_link_counts_for(relay: Fixture):
    decision = relay.admission.admit_link(relay.kit.call_token(), None)
    assert isinstance(decision, SenderGrant)
    assert decision.workspace_id == WORKSPACE_ID
    control_plane = relay.admission.admit_link(None, peer_of(relay.kit.control_plane))
    assert isinstance(control_plane, SenderGrant)
    assert control_plane.workspace_id is None


def test_revoked_and_locked_links_are_refused(relay: Fixture):
    kit, own = relay.kit, relay.kit.issue_node()
    token = kit.listen_token(own)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"certificates": [own.serial]}, "revoked"),
        ({"nodes": [NODE_ID]}, "revoked"),
        ({"workspaces": [WORKSPACE_ID]}, "revoked"),
        ({"locks": (lock("certificate", own.serial),)}, "locked"),
        ({"locks": (lock("node", NODE_ID), lock("workspace", WORKSPACE_ID))}, "listener"),
        ({}, "listener"),
    ]
    for changes, expected in cases:
        relay.trust_now(**changes)
        assert decide(relay, token, own) == expected, changes
    another = kit.issue_control_plane()  # what is ended signs no documents
    relay.trust_now(locks=(lock("certificate", another.serial),))
    assert decide(relay, None, another) == "locked"
    relay.trust_now(certificates=[another.serial])
    assert decide(relay, None, another) == "revoked"


def test_an_expired_certificate_attaches_nothing(relay: Fixture):
    own = relay.kit.issue_node(lifetime_seconds=3600)
    token = relay.kit.listen_token(own)
    relay.clock.advance(3601)
    assert decide(relay, token, own) == "bad_certificate"


def test_a_link_that_was_admitted_is_looked_at_again(relay: Fixture):
    own = relay.kit.issue_node()
    granted = relay.admission.admit_link(relay.kit.listen_token(own), peer_of(own))
    assert isinstance(granted, ListenerGrant)

    def label() -> str | None:
        refusal = relay.admission.no_longer(granted)
        return refusal.outcome.metric_label if refusal is not None else None

    assert label() is None
    relay.trust.set_stale(True)
    assert label() == "stale_trust"
    relay.trust.set_stale(False)
    assert label() is None
    relay.trust_now(certificates=[own.serial])
    assert label() == "revoked"
    assert [outcome.metric_label for outcome, *_ in relay.audit.refusals] == ["stale_trust", "revoked"]
    relay.trust_now()
    relay.clock.advance(granted.credential.ends_at - relay.clock.now())
    assert label() == "expired_token"


def test_renewal_of_a_listen_token(relay: Fixture):
    kit, own = relay.kit, relay.kit.issue_node()
    granted = relay.admission.admit_link(kit.listen_token(own), peer_of(own))
    assert isinstance(granted, ListenerGrant)
    listener = Listener(granted, "a", 1, owner=None, limits=LimitsSettings())  # type: ignore[arg-type]
    links = LinkAdmission(relay.trust, relay.clock)

    def renew(token: str) -> str | None:
        refusal = links.renew(listener, token)
        return refusal.outcome.metric_label if refusal is not None else None

    before = listener.credential
    assert renew(kit.listen_token(kit.issue_node())) == "bad_certificate"
    assert renew(kit.listen_token(kit.issue_node(node="nd-two"))) == "wrong_audience"
    assert renew(kit.listen_token(kit.issue_node("ws-sales"))) == "wrong_audience"
    assert renew(kit.call_token()) == "bad_token"
    assert renew("garbage") == "bad_token"
    assert listener.credential is before
    assert renew(kit.listen_token(own)) is None
    assert listener.credential is not before
    assert listener.credential.certificate_serial == own.serial
    before = listener.credential
    relay.trust_now(nodes=[NODE_ID])
    assert renew(kit.listen_token(own)) == "revoked"
    assert listener.credential is before


@pytest.mark.parametrize("locked", [lock("node", NODE_ID), lock("workspace", WORKSPACE_ID)])
def test_calls_to_a_locked_node_are_refused_whatever_the_token_names_and_end_with_the_lock(relay: Fixture, locked):
    call, shared = relay.kit.call_token(), relay.kit.workspace_token(9100)
    assert relay.admit(call) == relay.admit(shared, PORT) == "granted"
    locked = dataclasses.replace(locked, expires_at=int(relay.kit.now) + 300)
    relay.trust_now(locks=(locked,))
    assert relay.admit(call) == relay.admit(shared, PORT) == "locked"
    decision = relay.admission.admit(shared, PORT)
    assert isinstance(decision, Refusal)
    assert decision.outcome.http_status == 403
    # By the relay's own clock, whatever the control plane says.
    relay.clock.advance(301)
    assert relay.admit(call) == relay.admit(shared, PORT) == "granted"


def test_lifting_a_lock_restores_at_once(relay: Fixture):
    token = relay.kit.call_token()
    relay.trust_now(locks=(lock("node", NODE_ID),))
    assert relay.admit(token) == "locked"
    relay.trust_now()
    assert relay.admit(token) == "granted"


def test_under_stale_trust_nothing_new_is_admitted(relay: Fixture):
    own = relay.kit.issue_node()
    call, listen = relay.kit.call_token(), relay.kit.listen_token(own)
    assert relay.admit(call) == "granted"
    relay.trust.set_stale(True)
    assert relay.admit(call) == "stale_trust"
    assert decide(relay, listen, own) == "stale_trust"
    assert decide(relay, None, relay.kit.control_plane) == "stale_trust"
    relay.trust.set_stale(False)
    assert relay.admit(call) == "granted"
    assert decide(relay, listen, own) == "listener"


def test_calls_beyond_a_quota_are_refused_whichever_way_they_are_decided(relay: Fixture):
    ann, bob = relay.kit.call_token(subject="user/ann"), relay.kit.call_token(subject="user/bob")
    relay.quotas.replace({WORKSPACE_ID: WorkspaceQuotas(Quota(concurrent_calls=3), Quota(concurrent_calls=2))})
    grants = [relay.grant(ann), relay.grant(ann)]
    for grant in grants:
        assert grant.use is not None
        grant.use.begin()
    assert relay.admit(ann) == "over_quota"
    other = relay.kit.call_token(subject="user/ann")
    assert relay.admit(other) == "over_quota"
    third = relay.grant(bob)
    assert third.use is not None
    third.use.begin()
    assert relay.admit(bob) == "over_quota"
    grants[0].use.end()
    assert relay.admit(ann) == "granted"


def test_no_quota_keeps_the_control_plane_from_a_node_and_what_it_uses_counts(relay: Fixture):
    ann, bob = relay.kit.call_token(subject="user/ann"), relay.kit.call_token(subject="user/bob")
    own = relay.kit.call_token(subject=str(control_plane_id(TRUST_DOMAIN)))
    relay.quotas.replace({WORKSPACE_ID: WorkspaceQuotas(Quota(concurrent_calls=2), Quota(concurrent_calls=1))})
    relay.grant(ann).use.begin()
    uses = [relay.grant(own).use for _ in range(3)]
    for use in uses:
        assert use is not None
        use.begin()
        assert relay.admit(own) == "granted"
    assert relay.admit(bob) == "over_quota"


def test_only_a_good_token_of_the_control_planes_own_makes_a_call_its(relay: Fixture):
    own = relay.kit.call_token(subject=str(control_plane_id(TRUST_DOMAIN)))
    assert relay.admission.is_control_planes(own)
    foreign = own[:-8] + ("AAAAAAAA" if own[-8:] != "AAAAAAAA" else "BBBBBBBB")
    for token in (None, "no token", foreign, relay.kit.call_token(subject="user/ann")):
        assert not relay.admission.is_control_planes(token)
    relay.clock.advance(3600.0)
    assert not relay.admission.is_control_planes(own)


def test_quotas_that_come_and_go_count_for_tokens_that_were_granted_before(relay: Fixture):
    token = relay.kit.call_token()
    assert relay.grant(token).use is None
    relay.quotas.replace({WORKSPACE_ID: WorkspaceQuotas(Quota(calls_per_second=1))})
    relay.trust.renew()
    use = relay.grant(token).use
    assert use is not None
    use.begin()
    use.begin()
    assert relay.admit(token) == "over_quota"
    relay.clock.advance(1.0)
    assert relay.admit(token) == "granted"
    relay.quotas.replace({})
    relay.trust.renew()
    assert relay.grant(token).use is None


def test_what_a_token_was_granted_goes_with_it_and_without_a_search_for_cycles(kit: IdentityKit, tmp_path) -> None:
    relay = Fixture(kit, tmp_path, cache_entries=1)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(each, Grant) for each in gc.get_objects())
        for scope in ("health:read", "command:read", "command:submit"):
            assert relay.admit(kit.call_token(scope)) == "granted"
            relay.audit.grants.clear()
        assert sum(isinstance(each, Grant) for each in gc.get_objects()) == before + 1
    finally:
        gc.enable()


def test_calls_of_the_control_plane_are_told_from_those_of_senders_and_these_apart(kit, relay):
    def sender(subject: str, scope: str = "health:read") -> int:
        grant: Grant = relay.grant(kit.call_token(scope, subject=subject))
        return grant.sender

    assert sender(str(control_plane_id(TRUST_DOMAIN))) == CONTROL_PLANE
    operators = [sender(f"operator:{number}") for number in range(10)]
    assert len({CONTROL_PLANE, *operators}) == 11
    assert sender("operator:3", "command:read") == operators[3]
    assert relay.grant(kit.workspace_token(9100), PORT).sender != CONTROL_PLANE
