"""Key-encryption keys in a file: what was wrapped opens as long as anything needs its key."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from certs.errors import KeyFileError
from control_plane.secrets.envelope import new_data_key
from control_plane.secrets.file_keys import FileKeyEncryption
from control_plane.secrets.key_encryption import KeyEncryptionError, WrappedKey, context_of
from tests.support.still_disk import a_disk_that_stands_still

CONTEXT = context_of("ws-one")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "secret-keys.json"


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


def content_of(path: Path) -> bytes:
    return path.read_bytes()


async def test_the_file_is_made_once_and_for_its_owner(path: Path):
    data_key = new_data_key()
    wrapped = await FileKeyEncryption(path).wrap(data_key, CONTEXT)
    assert mode_of(path) == 0o600
    assert await FileKeyEncryption(path).unwrap(wrapped, CONTEXT) == data_key
    assert data_key not in wrapped.ciphertext


async def test_a_new_key_wraps_nothing_before_it_is_on_the_disk(path: Path):
    keys = FileKeyEncryption(path)
    before = keys.current_key_id
    with a_disk_that_stands_still() as disk:
        adding = asyncio.create_task(keys.add_key())
        await disk.asked()
        assert (await keys.wrap(new_data_key(), CONTEXT)).key_id == before
        disk.move()
        key_id = await adding
    assert keys.current_key_id == key_id == FileKeyEncryption(path).current_key_id != before


async def test_a_data_key_opens_for_its_workspace_only(path: Path):
    keys = FileKeyEncryption(path)
    wrapped = await keys.wrap(new_data_key(), CONTEXT)
    for other, context in (
        (wrapped, context_of("ws-two")),
        (WrappedKey(wrapped.key_id, wrapped.ciphertext[:-1] + b"x"), CONTEXT),
    ):
        with pytest.raises(KeyEncryptionError):
            await keys.unwrap(other, context)


async def test_a_new_key_leaves_what_the_old_one_wrapped_readable_until_it_is_retired(path: Path):
    keys, data_key = FileKeyEncryption(path), new_data_key()
    wrapped = await keys.wrap(data_key, CONTEXT)
    assert await keys.add_key() == keys.current_key_id != wrapped.key_id
    assert (await keys.wrap(data_key, CONTEXT)).key_id == keys.current_key_id
    for found in (keys, FileKeyEncryption(path)):
        assert await found.unwrap(wrapped, CONTEXT) == data_key
    assert await keys.retire({wrapped.key_id}) == []
    assert await keys.retire(set()) == [wrapped.key_id]
    for found in (keys, FileKeyEncryption(path)):
        with pytest.raises(KeyEncryptionError, match=r"secret-keys\.json"):
            await found.unwrap(wrapped, CONTEXT)


async def test_a_disk_that_fails_changes_nothing(path: Path, monkeypatch):
    keys = FileKeyEncryption(path)
    before, current = content_of(path), keys.current_key_id

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KeyEncryptionError, match="No space left"):
        await keys.add_key()
    assert (keys.current_key_id, content_of(path)) == (current, before)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"current":"a","keys":{}}',
        b'{"current":"a","keys":{"a":"AAAA"}}',
        b'{"current":"a","keys":["a"]}',
        b'{"current":7,"keys":{"a":7}}',
    ],
)
def test_a_damaged_file_is_said_to_be_one_and_kept(path: Path, content: bytes):
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="restore it"):
        FileKeyEncryption(path)
    assert path.read_bytes() == content


def test_a_file_that_others_can_read_is_refused(path: Path):
    FileKeyEncryption(path)
    path.chmod(0o644)
    with pytest.raises(KeyFileError):
        FileKeyEncryption(path)
    assert json.loads(path.read_text())["keys"]
