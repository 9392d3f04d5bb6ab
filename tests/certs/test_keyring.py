from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from certs.errors import CertificateError
from certs.keyfiles import generate_key
from certs.keyring import KeyRing, describe_token_key, jwk_of, key_from_jwk, key_id_of, read_token_key, token_key
from certs.signing import CertificateKey, LocalSigningKey, PublicKey, signing_public_key

KEYS: list[PublicKey] = [generate_key().public_key(), ed25519.Ed25519PrivateKey.generate().public_key()]


@pytest.mark.parametrize("key", KEYS)
def test_a_key_there_and_back(key: PublicKey) -> None:
    assert key_from_jwk(jwk_of(key)) == key
    assert read_token_key(describe_token_key(token_key(key))) == token_key(key)


def test_a_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    """The Ed25519 example of RFC 8037 appendix A.3."""
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    assert key_id_of(key_from_jwk(jwk)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


GOOD = jwk_of(KEYS[0])


@pytest.mark.parametrize(
    "jwk",
    [{}, {**GOOD, "d": "AAAA"}, {**GOOD, "crv": "P-384"}, {**GOOD, "kty": "RSA"}, {**GOOD, "x": GOOD["y"]},
     {**GOOD, "x": "AAAA"}, {**GOOD, "x": 5}, {**GOOD, "y": None}, {**GOOD, "x": GOOD["x"] + "="}, {**GOOD, "kty": []},
     {"kty": "oct", "k": "AAAA"}, {"kty": "OKP", "crv": "X25519", "x": GOOD["x"]}, {"kty": "OKP", "crv": "Ed25519"}],
)  # fmt: skip
def test_jwks_that_are_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(CertificateError):
        key_from_jwk(jwk)


def test_an_entry_binds_algorithm_and_key() -> None:
    entry = describe_token_key(token_key(KEYS[0]))
    for change in ({"alg": "EdDSA"}, {"alg": None}, {"alg": "HS256"}, {"kid": ""}, {"kid": "x" * 129}, {"jwk": "x"}):
        with pytest.raises(CertificateError):
            read_token_key({**entry, **change})


def test_the_ring_counts_its_changes() -> None:
    ring = KeyRing([token_key(KEYS[0])])
    before = ring.generation
    ring.replace([token_key(KEYS[1])], ())
    assert ring.generation > before
    assert ring.find(key_id_of(KEYS[0])) is None
    assert ring.keys == (token_key(KEYS[1]),)


def test_other_curves_do_not_sign() -> None:
    with pytest.raises(CertificateError, match="only P-256 and Ed25519"):
        signing_public_key(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_the_builder_s_key_only_signs() -> None:
    key = CertificateKey(LocalSigningKey(generate_key()))
    assert key.key_size == 256
    assert isinstance(key.curve, ec.SECP256R1)
    with pytest.raises(CertificateError, match="only signs"):
        key.private_numbers()
    with pytest.raises(CertificateError, match="P-256"):
        CertificateKey(LocalSigningKey(ed25519.Ed25519PrivateKey.generate()))
