"""Which lock is in force on what, and until when; and what is the same revocation or lock, asked for again."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError
from control_plane.storage import accounts, locks, revocations
from control_plane.storage.database import Database
from control_plane.storage.locks import LockRequest
from control_plane.storage.records.record import Record

NOW_MS = 1_800_000_000_000
WANTED = LockRequest("node", "nd-1", 60, "odd")
LATER_MS = NOW_MS + 60_000


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'locks.db'}")
    async with database.engine.begin() as connection:
        await connection.run_sync(Record.metadata.create_all)
    async with database.write() as session:
        accounts.add_account(session, NOW_MS)
        yield session
    await database.close()


async def test_a_lock_is_on_this_kind_and_id_until_it_expires_or_is_lifted(session: AsyncSession) -> None:
    lock, _ = await locks.create(session, WANTED, "me", NOW_MS)
    assert await locks.is_locked(session, "node", "nd-1", LATER_MS - 1)
    assert not await locks.is_locked(session, "node", "nd-2", NOW_MS)
    assert not await locks.is_locked(session, "workspace", "nd-1", NOW_MS)
    assert not await locks.is_locked(session, "node", "nd-1", LATER_MS)
    assert list(await locks.in_force(session, LATER_MS - 1)) == [lock]
    assert not await locks.in_force(session, LATER_MS)
    assert await locks.lift(session, lock, "me", NOW_MS + 1)
    assert not await locks.lift(session, lock, "me", NOW_MS + 1)
    assert not await locks.is_locked(session, "node", "nd-1", NOW_MS + 1)
    assert not await locks.in_force(session, NOW_MS + 1)


@pytest.mark.parametrize(
    ("again", "at_ms"),
    [
        (LockRequest("workspace", "nd-1", 60, "odd"), NOW_MS),
        (LockRequest("node", "nd-2", 60, "odd"), NOW_MS),
        (LockRequest("node", "nd-1", 61, "odd"), NOW_MS),
        (LockRequest("node", "nd-1", 60, "odder"), NOW_MS),
        (WANTED, LATER_MS),
    ],
)
async def test_only_the_same_request_while_its_lock_is_in_force_is_a_repetition(
    session: AsyncSession, again: LockRequest, at_ms: int
) -> None:
    first, is_new = await locks.create(session, WANTED, "me", NOW_MS)
    assert is_new
    repeated, is_new = await locks.create(session, WANTED, "me", LATER_MS - 1)
    assert (repeated.lock_id, is_new) == (first.lock_id, False)
    other, is_new = await locks.create(session, again, "me", at_ms)
    assert is_new
    assert other.sequence > first.sequence


async def test_a_lock_that_was_lifted_or_is_old_is_not_repeated(session: AsyncSession) -> None:
    long = LockRequest("node", "nd-1", 86_400, "odd")
    first, _ = await locks.create(session, long, "me", NOW_MS)
    await locks.lift(session, first, "me", NOW_MS)
    assert first.lift_sequence is not None
    second, is_new = await locks.create(session, long, "me", NOW_MS)
    assert is_new
    third, is_new = await locks.create(session, long, "me", NOW_MS + locks.REPETITION_MS)
    assert is_new
    assert first.sequence < first.lift_sequence < second.sequence < third.sequence


async def test_locks_that_are_over_take_no_room(session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MOST_LOCKS", 1)
    lock, _ = await locks.create(session, WANTED, "me", NOW_MS)
    other = LockRequest("node", "nd-2", 60, "odd")
    with pytest.raises(ApiError, match="1 locks in force"):
        await locks.create(session, other, "me", NOW_MS)
    await locks.lift(session, lock, "me", NOW_MS)
    assert (await locks.create(session, other, "me", NOW_MS))[1]


async def test_what_has_expired_is_noted_once_and_forgotten_later(session: AsyncSession) -> None:
    short, _ = await locks.create(session, WANTED, "me", NOW_MS)
    long, _ = await locks.create(session, LockRequest("node", "nd-2", 3600, "odd"), "me", NOW_MS)
    assert list(await locks.end_expired(session, LATER_MS)) == [short]
    assert not await locks.end_expired(session, LATER_MS)
    assert await locks.newest_sequence(session, "node", "nd-1") == short.sequence
    assert await locks.newest_sequence(session, "node", "nd-2") == long.sequence
    assert await locks.newest_sequence(session, "workspace", "nd-1") is None
    await locks.remove_old(session, NOW_MS + 10**9)
    assert await locks.find(session, long.lock_id) is long, "nobody has noted its end"
    assert await locks.newest_sequence(session, "node", "nd-1") is None


async def test_a_revocation_is_of_this_kind_and_id_for_as_long_as_it_matters(session: AsyncSession) -> None:
    async def revoke(name: str, now_ms: int) -> int:
        return await revocations.revoke(
            session, "certificate", name, expire_time=LATER_MS, revoked_by="me", now_ms=now_ms
        )

    first = await revoke("aa", NOW_MS)
    assert await revoke("aa", LATER_MS - 1) == first
    assert await revoke("aa", LATER_MS) > first, "what has expired is revoked anew"
    assert await revocations.is_revoked(session, "certificate", "aa")
    assert not await revocations.is_revoked(session, "certificate", "bb")
    assert not await revocations.is_revoked(session, "node", "aa")
    await revocations.revoke(session, "node", "nd-1", expire_time=None, revoked_by="me", now_ms=NOW_MS)
    await revocations.remove_expired(session, LATER_MS)
    assert await revocations.count(session) == 2
    await revocations.remove_expired(session, LATER_MS + 1)
    assert [ended.id for ended in await revocations.all_ended(session)] == ["nd-1"], "for good"
