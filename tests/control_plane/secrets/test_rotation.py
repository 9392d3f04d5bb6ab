"""Rotation of the key-encryption key: killed at any step, everything opens, and the next start finishes it."""

from pathlib import Path

import pytest
from sqlalchemy import select

from control_plane.secrets.file_keys import FileKeyEncryption
from control_plane.secrets.key_encryption import WrappedKey, context_of
from control_plane.secrets.references import SecretName
from control_plane.secrets.rotation import KeyRotation
from control_plane.secrets.vault import SecretVault
from control_plane.storage import accounts, secrets, workspaces
from control_plane.storage.audit import Actor
from control_plane.storage.database import Database
from control_plane.storage.migrate import migrate
from control_plane.storage.records.secrets import SecretDataKey
from trunkline.runtime.clock import SystemClock

ACTOR = Actor("operator/test")
NAME = SecretName("db", "password")


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing after it runs."""


class Mortal(FileKeyEncryption):
    """Dies at the n-th step of a rotation, before it or right after it is durable."""

    def __init__(self, path: Path, deaths: int, *, after: bool) -> None:
        super().__init__(path)
        self._left = deaths
        self._after = after

    async def _step(self, work):
        self._left -= 1
        if self._left == 0 and not self._after:
            work.close()
            raise Killed
        result = await work
        if self._left == 0:
            raise Killed
        return result

    async def add_key(self):
        return await self._step(super().add_key())

    async def wrap(self, data_key, context):
        return await self._step(super().wrap(data_key, context))

    async def retire(self, in_use):
        return await self._step(super().retire(in_use))


@pytest.fixture
async def database(tmp_path: Path):
    made = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    await migrate(made)
    yield made
    await made.close()


@pytest.fixture
async def filled(database: Database, tmp_path: Path) -> list[str]:
    """Three workspaces with a secret each."""
    vault = SecretVault(FileKeyEncryption(tmp_path / "keys.json"))
    async with database.write() as session:
        account = accounts.add_account(session, 1)
        await session.flush()
        ids = [workspaces.add(session, account.account_id, f"w-{n}", 1).workspace_id for n in range(3)]
        await session.flush()
        for workspace_id in ids:
            secrets.add_scope(session, workspace_id, "db", 1, "x")
            await session.flush()
            await vault.put(session, workspace_id, NAME, f"value of {workspace_id}".encode(), now_ms=1, actor="x")
    return ids


async def values(database: Database, tmp_path: Path, ids: list[str]) -> list[bytes]:
    vault = SecretVault(FileKeyEncryption(tmp_path / "keys.json"))
    async with database.read() as session:
        found = []
        for workspace_id in ids:
            row = await secrets.find(session, workspace_id, "db", "password")
            assert row is not None
            found += await vault.open(session, workspace_id, [row])
    return found


def rotation(database: Database, keys: FileKeyEncryption) -> KeyRotation:
    return KeyRotation(database=database, key_encryption=keys, clock=SystemClock())


async def test_every_data_key_is_wrapped_anew_and_the_old_key_is_forgotten(database, tmp_path, filled):
    keys = FileKeyEncryption(tmp_path / "keys.json")
    old = keys.current_key_id
    async with database.read() as session:
        before = {row.workspace_id: (row.key_id, row.wrapped) for row in (await session.scalars(select(SecretDataKey)))}
    key_id, count = await rotation(database, keys).rotate(ACTOR)
    assert (key_id, count) == (keys.current_key_id, 3)
    assert old not in (tmp_path / "keys.json").read_text()
    assert await values(database, tmp_path, filled) == [f"value of {one}".encode() for one in filled]
    for workspace_id, (wrapped_by, ciphertext) in before.items():
        with pytest.raises(Exception, match="is not in"):
            await keys.unwrap(WrappedKey(wrapped_by, ciphertext), context_of(workspace_id))


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deaths", [1, 2, 3, 4, 5])
async def test_killed_at_any_step_everything_opens_and_the_next_start_finishes(
    database, tmp_path, filled, deaths, after
):
    path = tmp_path / "keys.json"
    with pytest.raises(Killed):
        await rotation(database, Mortal(path, deaths, after=after)).rotate(ACTOR)
    expected = [f"value of {one}".encode() for one in filled]
    assert await values(database, tmp_path, filled) == expected
    keys = FileKeyEncryption(path)
    await rotation(database, keys).settle()
    async with database.read() as session:
        assert await secrets.key_ids_in_use(session) == {keys.current_key_id}
    assert path.read_text().count("kek-") == 2, "the current key, named and listed; no other"
    assert await values(database, tmp_path, filled) == expected


async def test_settling_what_is_settled_changes_nothing(database, tmp_path, filled):
    before = (tmp_path / "keys.json").read_bytes()
    await rotation(database, FileKeyEncryption(tmp_path / "keys.json")).settle()
    assert (tmp_path / "keys.json").read_bytes() == before
