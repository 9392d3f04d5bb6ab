import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from certs import keyfiles
from certs.errors import KeyFileError
from certs.keyfiles import (
    generate_key,
    key_from_pem,
    load_key,
    load_or_create_key,
    read_public,
    read_secret,
    write_key,
    write_public,
    write_secret,
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_secret_is_for_its_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_secret(tmp_path / "secret", b"one")
        write_public(tmp_path / "public", b"two")
    finally:
        os.umask(before)
    assert mode(tmp_path / "secret") == 0o600
    assert mode(tmp_path / "public") == 0o644
    assert read_secret(tmp_path / "secret") == b"one"


def test_replacing_a_loose_file_makes_it_tight(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o666)
    write_secret(path, b"new")
    assert mode(path) == 0o600
    assert read_secret(path) == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "secret").symlink_to(tmp_path / "target")
    write_secret(tmp_path / "secret", b"new")
    assert (tmp_path / "target").read_bytes() == b"target"
    assert not (tmp_path / "secret").is_symlink()


@pytest.mark.parametrize("permissions", [0o660, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_what_others_may_touch_is_refused(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"x")
    path.chmod(permissions)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_secret(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("permissions", [0o640, 0o440])
def test_what_root_hands_to_a_group_of_the_process_is_taken(tmp_path: Path, permissions: int) -> None:
    volume = tmp_path / "..2026_11_26"
    volume.mkdir()
    write_secret(volume / "secret", b"x")
    os.chown(volume / "secret", 0, os.getegid())
    (volume / "secret").chmod(permissions)
    (tmp_path / "..data").symlink_to(volume.name)
    (tmp_path / "secret").symlink_to("..data/secret")
    assert read_secret(tmp_path / "secret") == b"x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize(("owner", "group"), [(0, 54321), (12345, None)])
def test_what_a_group_can_read_is_refused_otherwise(tmp_path: Path, owner: int, group: int | None) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"x")
    path.chmod(0o640)
    os.chown(path, owner, os.getegid() if group is None else group)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_secret(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"x")
    os.chown(path, 12345, -1)
    with pytest.raises(KeyFileError, match="another user"):
        read_secret(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    for read in (read_secret, read_public):
        for name in ("pipe", "socket", "."):
            with pytest.raises(KeyFileError, match="regular file"):
                read(tmp_path / name)
        with pytest.raises(KeyFileError, match=r"cannot read .*missing"):
            read(tmp_path / "missing")


def test_what_is_public_may_be_read_by_anybody(tmp_path: Path) -> None:
    write_public(tmp_path / "root.pem", b"x")
    assert read_public(tmp_path / "root.pem") == b"x"


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyfiles, "MAX_FILE_BYTES", 10)
    write_secret(tmp_path / "secret", b"x" * 10)
    assert read_secret(tmp_path / "secret") == b"x" * 10
    write_secret(tmp_path / "secret", b"x" * 11)
    with pytest.raises(KeyFileError, match="larger than 10 bytes"):
        read_secret(tmp_path / "secret")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The order in which a write reaches the disk."""
    seen: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def record_fsync(descriptor: int) -> None:
        seen.append("fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def record_replace(path: Path, target: Path) -> Path:
        seen.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "replace", record_replace)
    return iter([seen])


def test_content_is_durable_before_it_has_the_name(tmp_path: Path, steps: Iterator[list[str]]) -> None:
    write_secret(tmp_path / "secret", b"x")
    assert next(steps) == ["fsync file", "rename", "fsync directory"]


@pytest.mark.parametrize("failing", ["fsync", "fchmod"])
def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "secret"
    write_secret(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, failing, fail)
        with pytest.raises(KeyFileError, match=r"cannot write .*secret: No space left"):
            write_secret(path, b"new")
    assert read_secret(path) == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["secret"]


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot write"):
        write_secret(tmp_path / "missing" / "secret", b"x")


@pytest.mark.parametrize("key", [generate_key(), ed25519.Ed25519PrivateKey.generate()])
def test_keys_there_and_back(tmp_path: Path, key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> None:
    write_key(tmp_path / "key", key)
    assert load_key(tmp_path / "key").public_key() == key.public_key()


def test_a_key_is_made_once(tmp_path: Path) -> None:
    first = load_or_create_key(tmp_path / "key")
    assert load_or_create_key(tmp_path / "key").public_key() == first.public_key()


def test_keys_that_are_refused() -> None:
    other = ec.generate_private_key(ec.SECP384R1())
    encrypted = generate_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    plain = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for pem, reason in ((plain, "neither"), (encrypted, "unencrypted"), (b"", "unencrypted"), (b"junk", "unencrypted")):
        with pytest.raises(KeyFileError, match=reason):
            key_from_pem(pem)
