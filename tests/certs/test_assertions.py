from pathlib import Path
from typing import Any

import pytest

from certs.assertions import AssertionSigner
from certs.claims import LONGEST_LIFE_SECONDS
from certs.errors import CertificateError
from certs.identities import Identity
from certs.jose import chain_member, write_compact
from certs.keyring import KeyRing
from certs.tokens import TokenClaims, TokenError, TokenErrorCode, TokenKind, TokenVerifier
from tests.support.identities import IdentityKit

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"), now=NOW)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("stranger"), now=NOW)


def origin(kit: IdentityKit, *ports: int, **options: Any) -> TokenClaims:
    return kit.verifier().verify(kit.workspace_token(*ports, **options), TokenKind.WORKSPACE, NOW)


def code(kit: IdentityKit, token: str, now: float = NOW) -> TokenErrorCode:
    with pytest.raises(TokenError) as refused:
        kit.verifier().verify(token, TokenKind.ASSERTION, now)
    return refused.value.code


def forge(kit: IdentityKit, signer: Identity, **changes: Any) -> str:
    claims = {
        "iss": str(signer.spiffe_id),
        "aud": str(kit.node_spiffe_id()),
        "sub": "operator:test",
        "iat": int(NOW),
        "exp": int(NOW) + 60,
        "jti": "j",
        "scope": "port:9100",
        "origin_jti": "o",
        **changes,
    }
    header = {"typ": TokenKind.ASSERTION.value, "x5c": chain_member(signer.chain.certificates)}
    return write_compact(header, claims, signer.signing_key())


def test_an_assertion_names_node_port_caller_and_origin(kit: IdentityKit) -> None:
    relay, workspace_claims = kit.issue_relay(), origin(kit, 9100, 9200)
    issued = AssertionSigner(relay).issue(workspace_claims, kit.node_spiffe_id(), 9100, now=NOW)
    claims = kit.verifier().verify(issued.text, TokenKind.ASSERTION, NOW, audience=str(kit.node_spiffe_id()))
    assert claims == issued.claims
    assert claims.issuer == str(relay.spiffe_id)
    assert claims.subject == workspace_claims.subject
    assert claims.origin_token_id == workspace_claims.token_id
    assert claims.signer_serial == relay.serial
    assert claims.scopes.ports == {9100}
    assert claims.expires_at == NOW + 60
    assert len(issued.text) < 3000


def test_an_assertion_never_outlives_its_origin_by_design(kit: IdentityKit) -> None:
    claims = origin(kit)
    late = claims.expires_at - 10
    issued = AssertionSigner(kit.issue_relay()).issue(claims, kit.node_spiffe_id(), 9100, now=late)
    assert issued.claims.expires_at == claims.expires_at


def test_a_relay_states_only_what_the_origin_allows(kit: IdentityKit) -> None:
    signer = AssertionSigner(kit.issue_relay())
    with pytest.raises(TokenError, match="does not name this port"):
        signer.issue(origin(kit, 9100), kit.node_spiffe_id(), 9200, now=NOW)
    with pytest.raises(TokenError, match="not for this node's workspace"):
        signer.issue(origin(kit, 9100), kit.node_spiffe_id("ws-other"), 9100, now=NOW)
    call = kit.verifier().verify(kit.call_token("port:9100"), TokenKind.CALL, NOW)
    with pytest.raises(TokenError, match="not for this node's workspace"):
        signer.issue(call, kit.node_spiffe_id(), 9100, now=NOW)


def test_only_relays_sign(kit: IdentityKit) -> None:
    for identity in (kit.issue_node(), kit.control_plane):
        with pytest.raises(CertificateError, match="only a relay"):
            AssertionSigner(identity)
        assert code(kit, forge(kit, identity)) is TokenErrorCode.WRONG_ISSUER


def test_a_relay_of_another_authority_is_not_believed(kit: IdentityKit, stranger: IdentityKit) -> None:
    foreign = stranger.issue_relay()
    assert code(kit, forge(kit, foreign)) is TokenErrorCode.BAD_CHAIN
    grafted = {
        "typ": TokenKind.ASSERTION.value,
        "x5c": chain_member([foreign.chain.leaf, *kit.issue_relay().chain.certificates[1:]]),
    }
    assert code(kit, write_compact(grafted, {}, foreign.signing_key())) is TokenErrorCode.BAD_CHAIN


def test_a_relay_of_another_trust_domain_is_not_believed_though_its_root_is(kit: IdentityKit, tmp_path: Path) -> None:
    other = IdentityKit(tmp_path, trust_domain="other.test", now=NOW)
    verifier = TokenVerifier(KeyRing((), [*kit.roots, *other.roots]), kit.trust_domain)
    verifier.verify(forge(kit, kit.issue_relay()), TokenKind.ASSERTION, NOW)
    with pytest.raises(TokenError, match="not signed by a relay"):
        verifier.verify(forge(kit, other.issue_relay()), TokenKind.ASSERTION, NOW)


def test_the_chain_must_be_the_signer_s(kit: IdentityKit) -> None:
    relay, other = kit.issue_relay("rl-one"), kit.issue_relay("rl-two")
    header = {"typ": TokenKind.ASSERTION.value, "x5c": chain_member(relay.chain.certificates)}
    claims = {**_claims_of(kit, relay)}
    assert code(kit, write_compact(header, claims, other.signing_key())) is TokenErrorCode.BAD_SIGNATURE
    assert code(kit, forge(kit, other, iss=str(relay.spiffe_id))) is TokenErrorCode.WRONG_ISSUER


def _claims_of(kit: IdentityKit, relay: Identity) -> dict[str, Any]:
    return {
        "iss": str(relay.spiffe_id), "aud": str(kit.node_spiffe_id()), "sub": "s", "iat": int(NOW),
        "exp": int(NOW) + 60, "jti": "j", "scope": "port:9100", "origin_jti": "o",
    }  # fmt: skip


def test_an_expired_relay_signs_nothing(kit: IdentityKit) -> None:
    relay = kit.issue_relay(lifetime_seconds=30)
    assert code(kit, forge(kit, relay), NOW + 31) is TokenErrorCode.BAD_CHAIN


def test_bounds(kit: IdentityKit) -> None:
    relay = kit.issue_relay()
    longest = LONGEST_LIFE_SECONDS[TokenKind.ASSERTION]
    assert code(kit, forge(kit, relay, exp=int(NOW) + longest + 1)) is TokenErrorCode.LIFETIME
    assert code(kit, forge(kit, relay, scope="command:submit")) is TokenErrorCode.BAD_CLAIMS
    assert code(kit, forge(kit, relay, scope="port:80")) is TokenErrorCode.BAD_CLAIMS
    assert code(kit, forge(kit, relay, origin_jti=None)) is TokenErrorCode.BAD_CLAIMS


@pytest.mark.parametrize("x5c", [[], None, "AAAA", ["AAAA"], ["!!"], [5], ["AAAA"] * 5, [""], {"0": "A"}])
def test_malformed_chains(kit: IdentityKit, x5c: Any) -> None:
    relay = kit.issue_relay()
    header = {"typ": TokenKind.ASSERTION.value, "x5c": x5c}
    assert code(kit, write_compact(header, _claims_of(kit, relay), relay.signing_key())) is TokenErrorCode.BAD_CHAIN
