import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.encoding import encode_base64url
from certs.errors import TokenError
from certs.jose import MAX_TOKEN_BYTES, parse_compact, parse_unread, write_compact
from certs.keyfiles import generate_key
from certs.keyring import KeyRing, token_key
from certs.signing import LocalSigningKey
from certs.tokens import TokenKind, TokenVerifier

KEY = LocalSigningKey(generate_key())
PUBLIC = token_key(KEY.public_key())
VERIFIER = TokenVerifier(KeyRing([PUBLIC]), "trunkline.test")

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
members = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "x5c", "iss", "aud", "sub", "iat", "exp", "nbf", "jti", "scope"])
    | st.text(max_size=8),
    values,
    max_size=8,
)


def refused_or_parsed(text: str) -> None:
    with contextlib.suppress(TokenError):
        parse_compact(text)
    with contextlib.suppress(TokenError):
        parse_unread(text, maximum_bytes=MAX_TOKEN_BYTES, maximum_header_bytes=MAX_TOKEN_BYTES).claims(3)
    with pytest.raises(TokenError):
        VERIFIER.verify(text, tuple(TokenKind), 1_800_000_000)


@given(st.text(max_size=300))
def test_any_text_is_refused_in_the_one_way(text: str) -> None:
    refused_or_parsed(text)


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=5))
def test_any_bytes_in_the_parts(parts: list[bytes]) -> None:
    refused_or_parsed(".".join(encode_base64url(part) for part in parts))


@given(header=members, claims=members)
def test_any_json_in_the_parts(header: dict[str, object], claims: dict[str, object]) -> None:
    parts = [json.dumps(part).encode("utf-8", "surrogatepass") for part in (header, claims)]
    refused_or_parsed(".".join(encode_base64url(part) for part in [*parts, bytes(64)]))


@given(claims=members, kind=st.sampled_from(list(TokenKind)))
def test_any_claims_that_the_real_key_signed(claims: dict[str, object], kind: TokenKind) -> None:
    header = {"typ": kind.value, "kid": PUBLIC.key_id}
    with contextlib.suppress(ValueError):  # what JSON cannot say at all
        refused_or_parsed(write_compact(header, claims, KEY))


@given(claims=st.dictionaries(st.text(st.characters(codec="ascii"), max_size=8), st.integers(0, 2**53 - 1), max_size=8))
def test_what_is_written_is_read_again(claims: dict[str, int]) -> None:
    text = write_compact({"typ": "tl-call+jwt", "kid": "k"}, claims, KEY)
    parsed = parse_compact(text)
    assert parsed.claims == claims
    assert (parsed.media_type, parsed.algorithm, parsed.key_id) == ("tl-call+jwt", "ES256", "k")


@given(data=st.data())
def test_a_good_token_with_damage_is_refused(data: st.DataObject) -> None:
    token = write_compact({"typ": "tl-call+jwt", "kid": PUBLIC.key_id}, {"iss": "x"}, KEY)
    position = data.draw(st.integers(0, len(token) - 1))
    refused_or_parsed(token[:position] + data.draw(st.text(max_size=3)) + token[position + 1 :])


def test_the_bound_is_inclusive() -> None:
    text = write_compact({"typ": "tl-call+jwt"}, {"p": ""}, KEY)
    padding = (MAX_TOKEN_BYTES - len(text)) // 4 * 3
    fitting = write_compact({"typ": "tl-call+jwt"}, {"p": "x" * padding}, KEY)
    assert MAX_TOKEN_BYTES - 4 < len(fitting) <= MAX_TOKEN_BYTES
    parse_compact(fitting)
    with pytest.raises(TokenError, match="longer than 4096 bytes"):
        parse_compact(write_compact({"typ": "tl-call+jwt"}, {"p": "x" * (padding + 3)}, KEY))
