import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from certs.claims import LONGEST_LIFE_SECONDS
from certs.encoding import encode_base64url
from certs.errors import CertificateError
from certs.jose import write_compact
from certs.keyfiles import generate_key
from certs.keyring import token_key
from certs.scopes import NAMED_SCOPES
from certs.signing import LocalSigningKey, jws_signature
from certs.spiffe import control_plane_id, node_id, relay_id, workspace_id
from certs.tokens import TokenError, TokenErrorCode, TokenKind, TokenSigner, TokenVerifier
from tests.support.identities import NODE, TRUST_DOMAIN, WORKSPACE, IdentityKit

ALL_KINDS = tuple(TokenKind)
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> IdentityKit:
    return IdentityKit(tmp_path_factory.mktemp("kit"), now=NOW)


@pytest.fixture
def verifier(kit: IdentityKit) -> TokenVerifier:
    return kit.verifier()


def good_claims(kit: IdentityKit, **changes: Any) -> dict[str, Any]:
    """Claims of a good call token; a change to None leaves the claim out."""
    claims = {
        "iss": f"spiffe://{TRUST_DOMAIN}/control-plane",
        "aud": str(kit.node_spiffe_id()),
        "sub": "operator:test",
        "iat": int(NOW),
        "exp": int(NOW) + 600,
        "jti": "0" * 32,
        "scope": "command:read",
        "workspace": WORKSPACE,
        "node": NODE,
        **changes,
    }
    return {name: value for name, value in claims.items() if value is not None}


def forge(kit: IdentityKit, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A token that the real key signed, with claims and header members as wanted."""
    full = {"typ": TokenKind.CALL.value, "kid": kit.token_key.key_id, **(header or {})}
    return write_compact(full, good_claims(kit, **changes), kit.token_signing_key)


def sign_raw(kit: IdentityKit, header: bytes, claims: bytes) -> str:
    """A token that the real key signed, over exactly these bytes."""
    message = f"{encode_base64url(header)}.{encode_base64url(claims)}"
    return f"{message}.{encode_base64url(jws_signature(kit.token_signing_key, message.encode()))}"


def header_of(kit: IdentityKit) -> bytes:
    return json.dumps({"alg": "ES256", "typ": TokenKind.CALL.value, "kid": kit.token_key.key_id}).encode()


def refusal(verifier: TokenVerifier, token: str, now: float = NOW) -> TokenErrorCode:
    with pytest.raises(TokenError) as refused:
        verifier.verify(token, ALL_KINDS, now)
    assert len(token) < 8 or token not in str(refused.value)
    return refused.value.code


def test_a_call_token_says_who_may_do_what_where(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = kit.call_token("command:submit", "port:22")
    claims = verifier.verify(token, TokenKind.CALL, NOW)
    assert claims.subject == "operator:test"
    assert (claims.workspace_id, claims.node_id) == ("ws-finance", "nd-one")
    assert (claims.workspace, claims.node) == (WORKSPACE, NODE)
    assert claims.audience == str(kit.node_spiffe_id())
    assert claims.scopes.allows("command:submit")
    assert not claims.scopes.allows("command:read")
    assert claims.scopes.allows_port(22)
    assert not claims.scopes.allows_port(80)
    assert claims.binding is None
    assert claims.key_id == kit.token_key.key_id


def test_a_listen_token_is_bound_to_its_leaf(kit: IdentityKit, verifier: TokenVerifier) -> None:
    node = kit.issue_node()
    claims = verifier.verify(kit.listen_token(node), TokenKind.LISTEN, NOW)
    assert claims.certificate_thumbprint == node.thumbprint
    assert claims.audience == f"spiffe://{TRUST_DOMAIN}/relay"
    assert claims.subject == str(node.spiffe_id)


def test_a_workspace_token_opens_ports_and_nothing_else(kit: IdentityKit, verifier: TokenVerifier) -> None:
    claims = verifier.verify(kit.workspace_token(9100, 9200), TokenKind.WORKSPACE, NOW)
    assert claims.scopes.ports == {9100, 9200}
    assert not claims.scopes.names
    assert claims.node_id is None
    for port in (80, 443):
        with pytest.raises(TokenError, match="scope"):
            kit.workspace_token(port)


def test_ed25519_keys_sign_too(kit: IdentityKit) -> None:
    key = LocalSigningKey(ed25519.Ed25519PrivateKey.generate())
    public = token_key(key.public_key())
    kit.keyring.replace([kit.token_key, public], kit.roots)
    signer = TokenSigner(key, public.key_id, control_plane_id(TRUST_DOMAIN))
    token = signer.issue_call(
        kit.node_spiffe_id(), subject="x", workspace="w", node_name="n", scopes=["health:read"], now=NOW
    )
    assert kit.verifier().verify(token.text, TokenKind.CALL, NOW) == token.claims


def test_an_issued_token_says_what_its_verifier_will_read(kit: IdentityKit, verifier: TokenVerifier) -> None:
    issued = kit.signer.issue_call(
        kit.node_spiffe_id(), subject="x", workspace="w", node_name="n", scopes=["health:read"], now=NOW
    )
    assert verifier.verify(issued.text, TokenKind.CALL, NOW) == issued.claims
    assert issued.text not in repr(issued)


@pytest.mark.parametrize("kind", [TokenKind.LISTEN, TokenKind.CALL, TokenKind.WORKSPACE])
def test_lifetimes_are_limited_when_issuing(kit: IdentityKit, kind: TokenKind) -> None:
    longest = LONGEST_LIFE_SECONDS[kind]
    options: dict[str, Any] = {"now": NOW, "workspace": "w"}
    issue: dict[TokenKind, Callable[[float], Any]] = {
        TokenKind.CALL: lambda life: kit.signer.issue_call(
            kit.node_spiffe_id(), subject="x", node_name="n", scopes=["port:1"], lifetime_seconds=life, **options
        ),
        TokenKind.LISTEN: lambda life: kit.signer.issue_listen(
            kit.node_spiffe_id(),
            node_name="n",
            certificate_thumbprint=encode_base64url(bytes(32)),
            lifetime_seconds=life,
            **options,
        ),
        TokenKind.WORKSPACE: lambda life: kit.signer.issue_workspace(
            workspace_id(TRUST_DOMAIN, "ws-1"), subject="x", ports=[1], lifetime_seconds=life, **options
        ),
    }
    assert issue[kind](longest).claims.expires_at == NOW + longest
    for life in (longest + 1, 0, -1):
        with pytest.raises(TokenError) as refused:
            issue[kind](life)
        assert refused.value.code is TokenErrorCode.LIFETIME


def test_lifetimes_are_limited_when_verifying(kit: IdentityKit, verifier: TokenVerifier) -> None:
    assert refusal(verifier, forge(kit, exp=int(NOW) + 901)) is TokenErrorCode.LIFETIME
    assert refusal(verifier, forge(kit, exp=int(NOW))) is TokenErrorCode.LIFETIME


def test_only_the_control_plane_issues(kit: IdentityKit) -> None:
    with pytest.raises(CertificateError, match="only the control plane"):
        TokenSigner(kit.token_signing_key, "k", relay_id(TRUST_DOMAIN, "rl-1"))


def test_no_algorithm_but_ours(kit: IdentityKit, verifier: TokenVerifier) -> None:
    claims = json.dumps(good_claims(kit)).encode()
    for algorithm in ("none", "None", "NONE", "", "HS256", "RS256", "ES384", "ES512", "es256", "PS256"):
        header = json.dumps({"alg": algorithm, "typ": TokenKind.CALL.value, "kid": kit.token_key.key_id}).encode()
        assert refusal(verifier, sign_raw(kit, header, claims)) is TokenErrorCode.ALGORITHM
        unsigned = f"{encode_base64url(header)}.{encode_base64url(claims)}."
        assert refusal(verifier, unsigned) is TokenErrorCode.MALFORMED


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_our_public_key_is_not_a_shared_secret(kit: IdentityKit, verifier: TokenVerifier, encoding: Encoding) -> None:
    secret = kit.token_key.public_key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
    header = json.dumps({"alg": "HS256", "typ": TokenKind.CALL.value, "kid": kit.token_key.key_id}).encode()
    message = f"{encode_base64url(header)}.{encode_base64url(json.dumps(good_claims(kit)).encode())}"
    mac = hmac.new(secret, message.encode(), hashlib.sha256).digest()
    assert refusal(verifier, f"{message}.{encode_base64url(mac)}") is TokenErrorCode.MALFORMED
    assert refusal(verifier, f"{message}.{encode_base64url(mac + mac)}") is TokenErrorCode.ALGORITHM


def test_the_algorithm_is_the_key_s_and_not_the_token_s(kit: IdentityKit, verifier: TokenVerifier) -> None:
    header = json.dumps({"alg": "EdDSA", "typ": TokenKind.CALL.value, "kid": kit.token_key.key_id}).encode()
    token = sign_raw(kit, header, json.dumps(good_claims(kit)).encode())
    assert refusal(verifier, token) is TokenErrorCode.ALGORITHM


def test_keys_come_from_memory_only(kit: IdentityKit, verifier: TokenVerifier) -> None:
    foreign = LocalSigningKey(generate_key())
    header = {"typ": TokenKind.CALL.value, "kid": "another"}
    assert refusal(verifier, write_compact(header, good_claims(kit), foreign)) is TokenErrorCode.UNKNOWN_KEY
    ours = {"typ": TokenKind.CALL.value, "kid": kit.token_key.key_id}
    assert refusal(verifier, write_compact(ours, good_claims(kit), foreign)) is TokenErrorCode.BAD_SIGNATURE
    assert refusal(verifier, forge(kit, header={"kid": None})) is TokenErrorCode.UNKNOWN_KEY
    for kid in ("../../etc/passwd", "a b", "", "x" * 129, 5, ["k"], "k\u0000"):
        assert refusal(verifier, forge(kit, header={"kid": kid})) is TokenErrorCode.MALFORMED


@pytest.mark.parametrize("member", ["crit", "jku", "jwk", "x5u", "b64", "zip", "enc"])
def test_a_token_may_not_choose_its_own_rules(kit: IdentityKit, verifier: TokenVerifier, member: str) -> None:
    assert refusal(verifier, forge(kit, header={member: ["exp"]})) is TokenErrorCode.MALFORMED


def test_certificates_are_for_assertions_only(kit: IdentityKit, verifier: TokenVerifier) -> None:
    assert refusal(verifier, forge(kit, header={"x5c": ["AAAA"]})) is TokenErrorCode.MALFORMED


def test_times(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = forge(kit)
    for now in (NOW, NOW - 60, NOW + 600, NOW + 659.9):
        assert verifier.verify(token, TokenKind.CALL, now).is_live(now)
    for _ in ("fresh", "cached"):
        assert refusal(verifier, token, NOW + 660) is TokenErrorCode.EXPIRED
        assert refusal(verifier, token, NOW + 1e9) is TokenErrorCode.EXPIRED
        assert refusal(verifier, token, NOW - 60.1) is TokenErrorCode.NOT_YET_VALID
        verifier.verify(token, TokenKind.CALL, NOW)
    later = forge(kit, nbf=int(NOW) + 300)
    assert refusal(verifier, later) is TokenErrorCode.NOT_YET_VALID
    verifier.verify(later, TokenKind.CALL, NOW + 300)


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", ["1800000600", True, False, 0, -1, [1], {}, 253402300800, 9007199254740993])
def test_times_are_integers_in_range(kit: IdentityKit, verifier: TokenVerifier, claim: str, value: Any) -> None:
    assert refusal(verifier, forge(kit, **{claim: value})) is TokenErrorCode.BAD_CLAIMS


@pytest.mark.parametrize(
    "number", ["1e308", "1e999", "1800000600.0", "1800000600.5", "NaN", "Infinity", "-Infinity", "9" * 17, "9" * 2000]
)
def test_numbers_that_are_no_plain_integers(kit: IdentityKit, verifier: TokenVerifier, number: str) -> None:
    claims = json.dumps(good_claims(kit, exp=4711)).replace("4711", number).encode()
    assert refusal(verifier, sign_raw(kit, header_of(kit), claims)) is TokenErrorCode.MALFORMED


def test_another_issuer(kit: IdentityKit, verifier: TokenVerifier) -> None:
    for issuer in ("https://evil.example", "spiffe://other.test/control-plane", f"spiffe://{TRUST_DOMAIN}/relay/rl-1"):
        assert refusal(verifier, forge(kit, iss=issuer)) is TokenErrorCode.WRONG_ISSUER
    for malformed in (None, 5, [f"spiffe://{TRUST_DOMAIN}/control-plane"]):
        assert refusal(verifier, forge(kit, iss=malformed)) is TokenErrorCode.WRONG_ISSUER


def test_one_audience_of_the_right_kind(kit: IdentityKit, verifier: TokenVerifier) -> None:
    good = str(kit.node_spiffe_id())
    malformed: list[Any] = [
        [good], [good, good], {}, 5, None, "", "*", good + "/", good.upper(), good + "%2f", good + "?a",
    ]  # fmt: skip
    for audience in malformed:
        assert refusal(verifier, forge(kit, aud=audience)) is TokenErrorCode.BAD_CLAIMS
    for audience in (
        str(node_id("other.test", "ws-finance", "nd-one")),
        str(workspace_id(TRUST_DOMAIN, "ws-finance")),
        f"spiffe://{TRUST_DOMAIN}/relay",
    ):
        assert refusal(verifier, forge(kit, aud=audience)) is TokenErrorCode.WRONG_AUDIENCE


def test_the_destination_is_compared_when_asked(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = forge(kit)
    for _ in ("fresh", "cached"):
        with pytest.raises(TokenError) as refused:
            verifier.verify(token, TokenKind.CALL, NOW, audience=str(kit.node_spiffe_id(node="nd-two")))
        assert refused.value.code is TokenErrorCode.WRONG_AUDIENCE
        verifier.verify(token, TokenKind.CALL, NOW, audience=str(kit.node_spiffe_id()))


def test_kinds_are_not_interchangeable(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = forge(kit)
    others = tuple(kind for kind in TokenKind if kind is not TokenKind.CALL)
    for _ in ("fresh", "cached"):
        for kinds in (*others, others, ()):
            with pytest.raises(TokenError) as refused:
                verifier.verify(token, kinds, NOW)
            assert refused.value.code is TokenErrorCode.WRONG_KIND
        verifier.verify(token, (TokenKind.CALL, TokenKind.LISTEN), NOW)
    for media_type in ("JWT", "tl-trust+jwt", "TL-CALL+JWT", "at+jwt"):
        assert refusal(verifier, forge(kit, header={"typ": media_type})) is TokenErrorCode.WRONG_KIND
    for missing in (None, 5, "", ["tl-call+jwt"]):
        assert refusal(verifier, forge(kit, header={"typ": missing})) is TokenErrorCode.MALFORMED


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("jti", None), ("jti", ""), ("jti", "a b"), ("jti", "x" * 65), ("jti", 5), ("jti", "a\u0000"),
        ("sub", None), ("sub", ""), ("sub", "a\u0000b"), ("sub", "x" * 256), ("sub", "line\nbreak"),
        ("sub", "\ud800"),
        ("workspace", None), ("workspace", "UPPER"), ("workspace", "a.b"), ("workspace", "-a"), ("node", "a/b"),
        ("scope", None), ("scope", ""), ("scope", "root"), ("scope", "command:read command:read"),
        ("scope", ["port:1"]),
        ("scope", "command:read  health:read"), ("scope", " command:read"), ("scope", "port:0"),
        ("scope", "port:65536"),
        ("scope", "port:01"), ("scope", "port:+1"), ("scope", "port:١"), ("scope", "port:"), ("scope", "port:22x"),
        ("scope", "command:read\t"),
        ("scope", " ".join(f"port:{n}" for n in range(1, 66))), ("scope", "COMMAND:READ"), ("scope", "port:all"),
        ("scope", "command:read command:Fly"), ("scope", "command:read fly"), ("scope", "command:" + "x" * 33),
        ("scope", "command:fly command:fly"), ("scope", "command:fly:high"),
    ],
)  # fmt: skip
def test_claims_have_their_exact_form(kit: IdentityKit, verifier: TokenVerifier, claim: str, value: Any) -> None:
    assert refusal(verifier, forge(kit, **{claim: value})) is TokenErrorCode.BAD_CLAIMS


def test_scopes_of_a_later_release_allow_nothing_and_cost_no_other(kit: IdentityKit, verifier: TokenVerifier) -> None:
    claims = verifier.verify(forge(kit, scope="command:fly command:read port:22"), (TokenKind.CALL,), NOW)
    assert (claims.scopes.allows("command:read"), claims.scopes.allows_port(22)) == (True, True)
    assert not any(claims.scopes.allows(name) for name in NAMED_SCOPES - {"command:read"})
    bound = forge(kit, scope="command:fly command:submit", body_sha256="A" * 43)
    assert refusal(verifier, bound) is TokenErrorCode.BAD_CLAIMS
    with pytest.raises(TokenError):
        kit.call_token("command:fly")


def test_a_listen_token_needs_its_binding(kit: IdentityKit, verifier: TokenVerifier) -> None:
    changes = {"aud": f"spiffe://{TRUST_DOMAIN}/relay", "workspace_id": "ws-1", "node_id": "nd-1"}
    bindings: list[Any] = [None, {}, [], "x", {"x5t#S256": "short"}, {"jkt": "A" * 43}]
    for binding in bindings:
        token = forge(kit, header={"typ": TokenKind.LISTEN.value}, cnf=binding, **changes)
        assert refusal(verifier, token) is TokenErrorCode.BAD_CLAIMS


def test_one_reading_only(kit: IdentityKit, verifier: TokenVerifier) -> None:
    claims = json.dumps(good_claims(kit))
    doubled = claims[:-1] + ', "scope": "command:submit"}'
    nested = claims[:-1] + ', "cnf": {"a": 1, "a": 2}}'
    escaped = claims[:-1] + ', "\\u0073cope": "command:submit"}'
    for text in (doubled, nested, escaped):
        assert refusal(verifier, sign_raw(kit, header_of(kit), text.encode())) is TokenErrorCode.MALFORMED
    header = header_of(kit).decode()[:-1] + ', "kid": "other"}'
    assert refusal(verifier, sign_raw(kit, header.encode(), claims.encode())) is TokenErrorCode.MALFORMED


def test_one_character_encoding_only(kit: IdentityKit, verifier: TokenVerifier) -> None:
    claims = json.dumps(good_claims(kit))
    for raw in (
        b"\xef\xbb\xbf" + claims.encode(),
        claims.encode("utf-16"),
        claims.encode("utf-16-le"),
        claims.encode("utf-32"),
        claims.encode().replace(b"operator", b"oper\xffator"),
        claims.encode() + b"\x00",
        claims.encode() + b"{}",
        b"",
        b"null",
        b"[]",
        b'"text"',
        claims.encode().replace(b"operator", b"oper\x00ator"),
    ):
        token = sign_raw(kit, header_of(kit), raw)
        assert refusal(verifier, token) is TokenErrorCode.MALFORMED


@pytest.mark.parametrize("opening", ['{"a":', "["])
@pytest.mark.parametrize("depth", [3, 10, 400])
def test_nesting_is_bounded(kit: IdentityKit, verifier: TokenVerifier, opening: str, depth: int) -> None:
    closing = "}" if opening.startswith("{") else "]"
    claims = json.dumps(good_claims(kit))[:-1] + f', "deep": {opening * depth}1{closing * depth}}}'
    assert refusal(verifier, sign_raw(kit, header_of(kit), claims.encode())) is TokenErrorCode.MALFORMED
    unclosed = b'{"a":' + opening.encode() * depth
    assert refusal(verifier, sign_raw(kit, header_of(kit), unclosed)) is TokenErrorCode.MALFORMED


def test_size_is_bounded_before_anything_else(verifier: TokenVerifier, kit: IdentityKit) -> None:
    huge = "A" * (2 * 1024 * 1024)  # whoever read it would find that it is none
    for token in (huge, f"{huge}.{huge}.{huge}", "." * len(huge), forge(kit, padding="x" * 4000)):
        assert refusal(verifier, token) is TokenErrorCode.TOO_LARGE


def test_three_parts_of_canonical_base64url(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = forge(kit)
    head, body, signature = token.split(".")
    standard = base64.b64encode(base64.urlsafe_b64decode(signature + "==")).decode()  # padded
    for wrong in (
        "", ".", "..", "...", f"{head}.{body}", f"{token}.", f"{token}.{signature}", f".{token}",
        f"{head}..{signature}",
        f"{token}=", f"{token}==", f"{head}=.{body}.{signature}", f" {token}", f"{token}\n", f"{token}\x00",
        token + "é",
        f"Bearer {token}", f"{head}.{body}.{standard}", f"{head}.{body}.{signature}A", f"{head}.{body}.AAAA",
        f"{head}.{body}.{signature[:-1]}", f"{head}\n.{body}.{signature}", "a.b.c", "\ud800.\ud800.\ud800",
    ):  # fmt: skip
        assert refusal(verifier, wrong) is TokenErrorCode.MALFORMED, wrong


def test_the_last_character_has_one_form(kit: IdentityKit, verifier: TokenVerifier) -> None:
    token = forge(kit)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    position = alphabet.index(token[-1])
    for other in range(position + 1, position // 16 * 16 + 16):
        assert refusal(verifier, token[:-1] + alphabet[other]) is TokenErrorCode.MALFORMED


def test_any_changed_character_is_noticed(kit: IdentityKit) -> None:
    token = forge(kit)
    verifier = kit.verifier()
    verifier.verify(token, ALL_KINDS, NOW)
    for position in range(0, len(token), 7):
        changed = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
        refusal(verifier, changed)


def test_a_removed_key_is_refused_at_once_also_from_the_cache(kit: IdentityKit) -> None:
    kit.keyring.replace([kit.token_key], kit.roots)
    verifier, token = kit.verifier(), forge(kit)
    verifier.verify(token, TokenKind.CALL, NOW)
    kit.keyring.replace([], kit.roots)
    assert refusal(verifier, token) is TokenErrorCode.UNKNOWN_KEY
    kit.keyring.replace([kit.token_key], kit.roots)
    verifier.verify(token, TokenKind.CALL, NOW)
    kit.keyring.replace([], kit.roots)
    assert refusal(verifier, token) is TokenErrorCode.UNKNOWN_KEY
    kit.keyring.replace([kit.token_key], kit.roots)


def test_a_removed_key_stays_refused_once_others_have_been_verified(kit: IdentityKit) -> None:
    verifier, token = kit.verifier(), forge(kit)
    verifier.verify(token, TokenKind.CALL, NOW)
    key = LocalSigningKey(generate_key())
    other = token_key(key.public_key())
    header = {"typ": TokenKind.CALL.value, "kid": other.key_id}
    kit.keyring.replace([other], kit.roots)
    try:
        verifier.verify(write_compact(header, good_claims(kit), key), TokenKind.CALL, NOW)
        assert refusal(verifier, token) is TokenErrorCode.UNKNOWN_KEY
    finally:
        kit.keyring.replace([kit.token_key], kit.roots)


def test_a_listen_token_is_not_kept(kit: IdentityKit) -> None:
    verifier = TokenVerifier(kit.keyring, TRUST_DOMAIN)
    verifier.verify(kit.listen_token(kit.issue_node()), TokenKind.LISTEN, NOW)
    assert not verifier._known


def test_the_cache_is_bounded_and_holds_nothing_that_was_refused(kit: IdentityKit) -> None:
    verifier = TokenVerifier(kit.keyring, TRUST_DOMAIN, 4)
    tokens = [forge(kit, jti=f"{n}") for n in range(10)]
    for token in tokens:
        verifier.verify(token, TokenKind.CALL, NOW)
        refusal(verifier, token[:-2] + ("AA" if not token.endswith("AA") else "BA"))
    assert len(verifier._known) == 4
    for token in tokens:
        verifier.verify(token, TokenKind.CALL, NOW)
