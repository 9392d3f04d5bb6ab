"""A bundle opens for its node, under its number, with its key, and never otherwise."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from certs.encoding import canonical_json, encode_base64url
from certs.errors import SealingError
from certs.sealing import seal
from certs.secret_bundles import BundledSecret, open_bundle, seal_bundle
from certs.spiffe import control_plane_id, node_id

KEY = X25519PrivateKey.generate()
NODE = node_id("trunkline.test", "ws-one", "nd-one")
SECRETS = [BundledSecret("db", "password", 3, b"hunter2"), BundledSecret("db", "pem", 4, b"\x00\xff\n")]


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_what_is_bundled_comes_out(values: list[bytes]) -> None:
    secrets = [BundledSecret("s", f"k{number}", number, value) for number, value in enumerate(values)]
    assert open_bundle(seal_bundle(secrets, KEY.public_key(), NODE, 7), KEY, NODE, 7) == secrets


@pytest.mark.parametrize(
    ("key", "node", "sequence"),
    [
        (X25519PrivateKey.generate(), NODE, 7),
        (KEY, node_id("trunkline.test", "ws-one", "nd-two"), 7),
        (KEY, node_id("trunkline.test", "ws-two", "nd-one"), 7),
        (KEY, node_id("other.test", "ws-one", "nd-one"), 7),
        (KEY, NODE, 6),
        (KEY, NODE, 8),
    ],
)
def test_nobody_else_and_no_other_number_opens_it(key, node, sequence) -> None:
    sealed = seal_bundle(SECRETS, KEY.public_key(), NODE, 7)
    assert open_bundle(sealed, KEY, NODE, 7) == SECRETS
    with pytest.raises(SealingError):
        open_bundle(sealed, key, node, sequence)


@pytest.mark.parametrize("sequence", [0, -1, 2**53])
def test_numbers_that_are_none(sequence: int) -> None:
    with pytest.raises(SealingError):
        seal_bundle(SECRETS, KEY.public_key(), NODE, sequence)


def test_it_is_for_a_node() -> None:
    with pytest.raises(SealingError):
        seal_bundle(SECRETS, KEY.public_key(), control_plane_id("trunkline.test"), 1)


@pytest.mark.parametrize("text", ["", "x", "AAAA", "not base64url!"])
def test_what_is_no_bundle(text: str) -> None:
    with pytest.raises(SealingError):
        open_bundle(text, KEY, NODE, 7)


@pytest.mark.parametrize("plaintext", [b"[]", b"{}", b'{"secrets":[{"scope":"s"}]}', b'{"secrets":[7]}'])
def test_what_is_sealed_but_holds_no_secrets(plaintext: bytes) -> None:
    context = canonical_json(["trunkline secret bundle 1", str(NODE), 7])
    sealed = encode_base64url(seal(plaintext, KEY.public_key(), context=context))
    with pytest.raises(SealingError, match="list of secrets"):
        open_bundle(sealed, KEY, NODE, 7)


def test_values_do_not_show() -> None:
    assert "hunter2" not in repr(SECRETS)
