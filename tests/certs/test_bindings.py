"""The binding of a call token to one request: strictly read, in call tokens only, and nothing beside it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.bindings import BINDING_CLAIMS, COMMAND_ID, LONGEST_SUBMIT_SECONDS, Binding, read_binding
from certs.encoding import encode_base64url
from certs.errors import TokenError, TokenErrorCode
from certs.jose import write_compact
from certs.scopes import parse_scopes
from certs.spiffe import relays_id, workspace_id
from certs.tokens import TokenKind
from tests.support.identities import NODE, TRUST_DOMAIN, WORKSPACE, WORKSPACE_ID, IdentityKit

NOW = 1_800_000_000
DIGEST = encode_base64url(bytes(32))
BOUND = {"body_sha256": DIGEST, "command_id": "c-1", "submit_until": NOW + 900}
SUBMIT = parse_scopes("command:submit")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"), now=NOW)


def forge(kit: IdentityKit, kind: TokenKind = TokenKind.CALL, /, **claims: Any) -> str:
    """A token that the real key signed; a claim of None is left out."""
    full = {
        "iss": f"spiffe://{TRUST_DOMAIN}/control-plane",
        "aud": str(kit.node_spiffe_id()),
        "sub": "operator:test",
        "iat": NOW,
        "exp": NOW + 600,
        "jti": "0" * 32,
        "scope": "command:submit",
        "workspace": WORKSPACE,
        "node": NODE,
        **claims,
    }
    header = {"typ": kind.value, "kid": kit.token_key.key_id}
    return write_compact(header, {k: v for k, v in full.items() if v is not None}, kit.token_signing_key)


def refused(kit: IdentityKit, token: str) -> str:
    with pytest.raises(TokenError) as refusal:
        kit.verifier().verify(token, tuple(TokenKind), NOW)
    assert refusal.value.code is TokenErrorCode.BAD_CLAIMS
    return str(refusal.value)


def test_an_issued_binding_is_what_is_read(kit: IdentityKit) -> None:
    binding = Binding.of_body(b"body", "c-1", NOW + 1200)
    claims = kit.verifier().verify(kit.call_token("command:submit", binding=binding), TokenKind.CALL, NOW)
    assert claims.binding == binding
    assert binding.covers(b"body")
    assert not binding.covers(b"body ")


def test_a_body_alone_binds_too(kit: IdentityKit) -> None:
    claims = kit.verifier().verify(forge(kit, body_sha256=DIGEST), TokenKind.CALL, NOW)
    assert claims.binding == Binding(DIGEST)
    assert kit.verifier().verify(forge(kit), TokenKind.CALL, NOW).binding is None


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("body_sha256", None), ("body_sha256", "short"), ("body_sha256", 5), ("body_sha256", "!" * 43),
        ("body_sha256", "A" * 44), ("body_sha256", [DIGEST]),
        ("command_id", None), ("command_id", ""), ("command_id", "x" * 129), ("command_id", "-x"),
        ("command_id", "a/b"), ("command_id", ".."), ("command_id", "a\n"), ("command_id", "a\u0661"),
        ("command_id", 5), ("command_id", ["c-1"]), ("command_id", True),
        ("submit_until", NOW + 599), ("submit_until", NOW + LONGEST_SUBMIT_SECONDS + 1), ("submit_until", True),
        ("submit_until", str(NOW + 900)), ("submit_until", -1),
        ("scope", "command:read"), ("scope", "command:submit command:read"), ("scope", "command:submit port:22"),
        ("scope", "port:22"),
    ],
)  # fmt: skip
def test_bindings_have_their_exact_form(kit: IdentityKit, claim: str, value: Any) -> None:
    message = refused(kit, forge(kit, **{**BOUND, claim: value}))
    assert f"claim {claim} " in message


@pytest.mark.parametrize(
    ("claim", "value"), [*((claim, None) for claim in sorted(BINDING_CLAIMS)), ("submit_until", NOW + 900.0)]
)
def test_a_null_is_not_an_absence_and_a_float_no_time(claim: str, value: Any) -> None:
    claims = {"iat": NOW, "exp": NOW + 600, **BOUND, claim: value}
    with pytest.raises(TokenError, match=f"claim {claim} "):
        read_binding(claims, SUBMIT)


@pytest.mark.parametrize("claim", ["command_id", "submit_until"])
def test_nothing_is_bound_without_a_body(kit: IdentityKit, claim: str) -> None:
    assert "claim body_sha256 " in refused(kit, forge(kit, **{claim: BOUND[claim]}))


@pytest.mark.parametrize("claim", sorted(BINDING_CLAIMS))
def test_other_kinds_of_tokens_have_none(kit: IdentityKit, claim: str) -> None:
    node = kit.issue_node()
    listen: dict[str, Any] = {
        "aud": str(relays_id(TRUST_DOMAIN)),
        "workspace_id": WORKSPACE_ID,
        "node_id": "nd-one",
        "cnf": {"x5t#S256": node.thumbprint},
        "scope": None,
    }
    shared: dict[str, Any] = {"aud": str(workspace_id(TRUST_DOMAIN, WORKSPACE_ID)), "scope": "port:9100", "node": None}
    for kind, own in ((TokenKind.LISTEN, listen), (TokenKind.WORKSPACE, shared)):
        kit.verifier().verify(forge(kit, kind, **own), kind, NOW)
        assert f"claim {claim} " in refused(kit, forge(kit, kind, **own, **{claim: BOUND[claim]}))


def test_what_would_not_be_read_is_not_issued(kit: IdentityKit) -> None:
    for scopes, binding in (
        (("command:read",), Binding(DIGEST)),
        (("command:submit", "port:22"), Binding(DIGEST)),
        (("command:submit",), Binding("short")),
        (("command:submit",), Binding(DIGEST, "a b")),
        (("command:submit",), Binding(DIGEST, None, NOW + 900)),
        (("command:submit",), Binding(DIGEST, "c-1", NOW)),
    ):
        with pytest.raises(TokenError):
            kit.call_token(*scopes, binding=binding)


_VALUES = st.sampled_from([None, True, "c-1", DIGEST, [DIGEST], NOW + 900.0]) | st.integers() | st.text(max_size=5)


@given(st.dictionaries(st.sampled_from(sorted(BINDING_CLAIMS)), _VALUES | st.integers(NOW + 500, NOW + 8000)))
def test_whatever_is_claimed_is_refused_or_means_one_thing(claims: dict[str, Any]) -> None:
    full = {"iat": NOW, "exp": NOW + 600, **claims}
    try:
        binding = read_binding(full, SUBMIT)
    except TokenError:
        return
    assert (binding is None) == (not claims)
    if binding is not None:
        assert json.loads(json.dumps(binding.to_claims())) == claims
        assert binding.command_id is None or COMMAND_ID.fullmatch(binding.command_id)


def test_a_part_of_an_input_is_meant_at_its_place_only():
    binding = Binding.of_stdin(b"two", "c-1", 3, complete=False)
    assert binding.covers_stdin(b"two", 3, complete=False)
    for content, offset, complete in ((b"tw0", 3, False), (b"two", 0, False), (b"two", 3, True), (b"", 3, False)):
        assert not binding.covers_stdin(content, offset, complete=complete)
    assert not binding.covers(b"two")
