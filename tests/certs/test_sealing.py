import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from certs.encoding import encode_base64url
from certs.errors import SealingError
from certs.sealing import MAX_PLAINTEXT_BYTES, open_sealed, read_sealing_key, seal, write_sealing_key

KEY = X25519PrivateKey.generate()
PUBLIC = KEY.public_key()


@given(plaintext=st.binary(max_size=300), context=st.binary(max_size=60))
def test_what_is_sealed_is_opened(plaintext: bytes, context: bytes) -> None:
    sealed = seal(plaintext, PUBLIC, context=context)
    assert len(sealed) == len(plaintext) + 48
    assert open_sealed(sealed, KEY, context=context) == plaintext


def test_only_by_that_key_in_that_context() -> None:
    sealed = seal(b"secret", PUBLIC, context=b"node one")
    with pytest.raises(SealingError):
        open_sealed(sealed, KEY, context=b"node two")
    with pytest.raises(SealingError):
        open_sealed(sealed, X25519PrivateKey.generate(), context=b"node one")
    assert seal(b"secret", PUBLIC, context=b"node one") != sealed


@given(position=st.integers(0, 53), flip=st.integers(1, 255))
def test_any_alteration_is_noticed(position: int, flip: int) -> None:
    sealed = bytearray(seal(b"secret", PUBLIC, context=b""))
    sealed[position] ^= flip
    with pytest.raises(SealingError):
        open_sealed(bytes(sealed), KEY, context=b"")


@given(st.binary(max_size=100))
def test_garbage_is_refused(sealed: bytes) -> None:
    with pytest.raises(SealingError):
        open_sealed(sealed, KEY, context=b"")


def test_sizes_are_bounded() -> None:
    assert open_sealed(seal(bytes(MAX_PLAINTEXT_BYTES), PUBLIC, context=b""), KEY, context=b"")
    with pytest.raises(SealingError, match="at most"):
        seal(bytes(MAX_PLAINTEXT_BYTES + 1), PUBLIC, context=b"")
    with pytest.raises(SealingError, match="length"):
        open_sealed(bytes(MAX_PLAINTEXT_BYTES + 49), KEY, context=b"")


def test_keys_travel_in_one_form() -> None:
    assert read_sealing_key(write_sealing_key(PUBLIC)) == PUBLIC
    for bad in ("", "AAAA", write_sealing_key(PUBLIC) + "=", encode_base64url(bytes(33)), "!" * 43):
        with pytest.raises(SealingError):
            read_sealing_key(bad)
    with pytest.raises(SealingError):
        read_sealing_key(encode_base64url(bytes(32)))


def test_it_is_hpke_as_the_standard_says() -> None:
    """Opens what was sealed by the formulas of RFC 9180 sections 4.1, 5.1 and 5.2, written out here."""
    sealed, context = seal(b"a secret", PUBLIC, context=b"info"), b"info"
    encapsulated = sealed[:32]
    shared = KEY.exchange(X25519PublicKey.from_public_bytes(encapsulated))
    kem = b"KEM" + (0x0020).to_bytes(2, "big")
    suite = b"HPKE" + b"".join(number.to_bytes(2, "big") for number in (0x0020, 0x0001, 0x0002))
    eae = labeled_extract(kem, b"", b"eae_prk", shared)
    secret = labeled_expand(kem, eae, b"shared_secret", encapsulated + PUBLIC.public_bytes_raw(), 32)
    psk_hash = labeled_extract(suite, b"", b"psk_id_hash", b"")
    schedule = b"\x00" + psk_hash + labeled_extract(suite, b"", b"info_hash", context)
    prk = labeled_extract(suite, secret, b"secret", b"")
    key = labeled_expand(suite, prk, b"key", schedule, 32)
    nonce = labeled_expand(suite, prk, b"base_nonce", schedule, 12)
    assert AESGCM(key).decrypt(nonce, sealed[32:], b"") == b"a secret"


def labeled_extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    return mac(salt or bytes(32), b"HPKE-v1" + suite + label + material)


def labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    return mac(prk, length.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info + b"\x01")[:length]


def mac(key: bytes, message: bytes) -> bytes:
    digest = hmac.HMAC(key, hashes.SHA256())
    digest.update(message)
    return digest.finalize()
