"""Key stores: a name is given once, what is stored is private, and what was destroyed is gone."""

import secrets
import stat
from pathlib import Path

import pytest

from certs.errors import KeyFileError
from certs.identities import build_csr
from certs.keyfiles import generate_key
from certs.keystores import FileKeys, KeyStore
from certs.pkcs11_keys import Pkcs11Keys
from certs.spiffe import node_id
from certs.succession import first_authority, succeed
from tests.support.softhsm import needs_softhsm, pin_file, softhsm_module

NOW = 1_795_000_000.0


@pytest.fixture
def token(tmp_path: Path) -> Path:
    """The file that holds the token's PIN."""
    return pin_file(tmp_path)


@pytest.fixture
def name() -> str:
    """The name of a key that no other test has."""
    return f"signers/root-{secrets.token_hex(4)}"


@pytest.fixture(params=["files", pytest.param("pkcs11", marks=needs_softhsm)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> KeyStore:
    if request.param == "files":
        return FileKeys(tmp_path / "keys")
    return Pkcs11Keys(softhsm_module(), "ca", request.getfixturevalue("token"))


def test_a_key_is_found_again_and_is_the_same(store: KeyStore, name: str):
    made = store.create(name)
    assert store.open(name).public_key() == made.public_key()
    with pytest.raises(KeyFileError):
        store.create(name)


def test_what_was_destroyed_is_gone(store: KeyStore, name: str):
    store.create(name)
    store.create(f"{name}-2")
    store.destroy(name)
    store.destroy(name)
    with pytest.raises(KeyFileError):
        store.open(name)
    assert store.open(f"{name}-2")


def test_an_authority_and_its_successor_stand_on_the_keys(store: KeyStore, name: str):
    root, issuing, next_root, next_issuing = (store.create(f"{name}-{number}") for number in range(4))
    first = first_authority("x.test", root, issuing, now=NOW)
    second = succeed(first, store.open(f"{name}-0"), next_root, next_issuing, "x.test", now=NOW)
    authority = second.authority("x.test", store.open(f"{name}-3"), NOW)
    chain = authority.issue_node(build_csr(generate_key()), node_id("x.test", "ws-1", "nd-1"), 60, now=NOW)
    chain.leaf.verify_directly_issued_by(second.issuing)


def test_files_are_private(tmp_path: Path):
    FileKeys(tmp_path).create("signers/root-1")
    assert stat.S_IMODE((tmp_path / "signers" / "root-1.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "signers").stat().st_mode) == 0o700


@needs_softhsm
def test_a_wrong_pin_a_missing_token_and_an_open_pin_file_are_refused(token: Path):
    with pytest.raises(KeyFileError, match="no-such"):
        Pkcs11Keys(softhsm_module(), "no-such", token)
    with pytest.raises(KeyFileError, match="cannot use the token"):
        Pkcs11Keys(token.parent / "none.so", "ca", token)
    token.write_text("0000")
    with pytest.raises(KeyFileError) as refused:
        Pkcs11Keys(softhsm_module(), "ca", token).create("x")
    assert "0000" not in str(refused.value)
    token.chmod(0o644)
    with pytest.raises(KeyFileError, match="others"):
        Pkcs11Keys(softhsm_module(), "ca", token)


@needs_softhsm
def test_the_private_half_cannot_be_read(token: Path, name: str):
    import pkcs11

    keys = Pkcs11Keys(softhsm_module(), "ca", token)
    keys.create(name)
    with keys._token.open(user_pin="4321") as session:
        private = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=name)
        with pytest.raises(pkcs11.PKCS11Error):
            private[pkcs11.Attribute.VALUE]
