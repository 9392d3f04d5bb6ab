"""Which lock is in force on what, and until when; and what is the same revocation or lock, asked for again."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.errors import ApiError
from control_plane.storage import accounts, locks, revocations
from control_plane.storage.locks import LockRequest

NOW_MS = 1_800_000_000_000
WANTED = LockRequest("node", "nd-1", 60, "odd")
LATER_MS = NOW_MS + 60_000


@pytest.fixture
async def session(empty: AsyncSession) -> AsyncSession:
    accounts.add_account(empty, NOW_MS)
    return empty


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


async def test_locks_are_listed_by_kind_and_by_whether_they_are_over(session: AsyncSession) -> None:
    wanted = {
        "short": WANTED,
        "long": LockRequest("node", "nd-2", 3600, "odd"),
        "lifted": LockRequest("node", "nd-3", 3600, "odd"),
        "token": LockRequest("token", "t", 3600, "odd"),
    }
    made = {name: (await locks.create(session, one, "me", NOW_MS))[0] for name, one in wanted.items()}
    await locks.lift(session, made["lifted"], "somebody", NOW_MS + 7)
    assert (made["lifted"].lift_time, made["lifted"].lifted_by) == (NOW_MS + 7, "somebody")
    assert not await locks.lift(session, made["short"], "somebody", LATER_MS), "it is over already"

    async def listed(kind: str | None, *, ended: bool, after: str | None = None, most: int = 9) -> list[str]:
        sequence = None if after is None else made[after].sequence
        page = await locks.list_page(session, kind=kind, ended=ended, after=sequence, most=most, now_ms=LATER_MS)
        return [name for lock in page for name in made if made[name] is lock]

    assert await listed(None, ended=True) == ["short", "long", "lifted", "token"]
    assert await listed(None, ended=False) == ["long", "token"]
    assert await listed("node", ended=False) == ["long"]
    assert await listed("node", ended=True, after="short", most=1) == ["long"]
    assert await listed("node", ended=True, after="long") == ["lifted"]


async def test_an_ended_lock_is_forgotten_once_it_is_old(session: AsyncSession) -> None:
    lock, _ = await locks.create(session, WANTED, "me", NOW_MS)
    await locks.lift(session, lock, "me", NOW_MS)
    await session.flush()
    await locks.remove_old(session, LATER_MS)
    assert await locks.newest_sequence(session, "node", "nd-1") == lock.sequence
    await locks.remove_old(session, LATER_MS + 1)
    assert await locks.newest_sequence(session, "node", "nd-1") is None


async def test_revocations_are_listed_by_kind_in_the_order_in_which_they_were_made(session: AsyncSession) -> None:
    named = [("token", "b"), ("node", "n"), ("token", "a")]
    numbers = [
        await revocations.revoke(session, kind, name, expire_time=None, revoked_by="me", now_ms=NOW_MS)
        for kind, name in named
    ]
    for kind, after, found in (
        (None, None, named),
        (None, numbers[0], named[1:]),
        ("token", None, [named[0], named[2]]),
        ("token", numbers[0], [named[2]]),
    ):
        page = await revocations.list_page(session, kind=kind, after=after, most=9)
        assert [(one.kind, one.id) for one in page] == found
    [first] = await revocations.list_page(session, kind=None, after=None, most=1)
    assert first.id == "b"


async def test_there_are_as_many_revocations_as_a_document_holds(
    session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revocations, "MOST_REVOCATIONS", 1)

    async def revoke(name: str) -> int:
        return await revocations.revoke(session, "node", name, expire_time=None, revoked_by="me", now_ms=NOW_MS)

    first = await revoke("nd-1")
    assert await revoke("nd-1") == first, "what is revoked for good stays so"
    with pytest.raises(ApiError, match="revocations already"):
        await revoke("nd-2")
