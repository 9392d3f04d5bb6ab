"""Small changes that wait together: one commit, nobody answered before it, and of what fails nothing but itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete, event, func, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.database import Database
from control_plane.storage.errors import StorageFullError, StorageHeldError
from control_plane.storage.migrate import migrate
from control_plane.storage.records.joining import Challenge
from control_plane.storage.shared_commits import Work
from tests.support.postgres import has_postgres, running_postgres

needs_postgres = pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with running_postgres() as server:
        yield server.url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=needs_postgres)])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty one; of PostgreSQL there is one server for all tests."""
    sqlite = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    made = Database(sqlite if request.param == "sqlite" else request.getfixturevalue("postgres_url"))
    await migrate(made)
    async with made.write() as session:
        await session.execute(delete(Challenge))
    yield made
    await made.close()


class RefusedError(Exception):
    """What a change may raise."""


def adding(name: str, *, refuse: bool = False) -> Work[str]:
    async def add(session: AsyncSession) -> str:
        session.add(Challenge(nonce_sha256=name, expire_time=1))
        if refuse:
            await session.flush()
            raise RefusedError
        return name

    return add


async def counting(session: AsyncSession) -> int:
    """How many there are, for one that sees those before it."""
    return (await session.scalars(select(func.count()).select_from(Challenge))).one()


async def names(database: Database) -> set[str]:
    async with database.read() as session:
        return set((await session.scalars(select(Challenge.nonce_sha256))).all())


def commits(database: Database) -> list[None]:
    """A list that has an element for each commit from now on."""
    found: list[None] = []
    event.listen(database._writer.kw["bind"].sync_engine, "commit", lambda _: found.append(None))
    return found


async def queued(database: Database, *works: Work[object]) -> list["asyncio.Task[object]"]:
    """Have these wait, in this order, behind a writer that has ended when this returns."""
    async with database.write():
        tasks = [asyncio.ensure_future(database.write_together(work)) for work in works]
        await asyncio.sleep(0)
    return tasks


async def test_a_lone_change_is_one_transaction_without_a_savepoint(database: Database):
    said: list[str] = []
    engine = database._writer.kw["bind"].sync_engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: said.append(arguments[2]))
    assert await database.write_together(adding("a")) == "a"
    assert await names(database) == {"a"}
    assert not [one for one in said if "SAVEPOINT" in one]


async def test_those_that_wait_share_a_commit_and_see_what_was_changed_before_them(database: Database):
    tasks = await queued(database, *(adding(f"n{number}") for number in range(5)), counting)
    made = commits(database)
    assert await asyncio.gather(*tasks) == [*(f"n{number}" for number in range(5)), 5]
    assert await names(database) == {f"n{number}" for number in range(5)}
    assert len(made) == 1


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_that_fails_takes_nothing_of_the_others_back(database: Database, place: int):
    works: list[Work[object]] = [adding("a"), adding("b")]
    works[place:place] = [adding("x", refuse=True)]
    tasks = await queued(database, *works)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found.pop(place), RefusedError)
    assert found == ["a", "b"]
    assert await names(database) == {"a", "b"}


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_one_that_breaks_a_constraint_fails_alone(database: Database, place: int):
    await database.write_together(adding("x"))
    works: list[Work[object]] = [adding("a"), adding("b")]
    works[place:place] = [adding("x")]
    found = await asyncio.gather(*await queued(database, *works), return_exceptions=True)
    assert isinstance(found.pop(place), IntegrityError)
    assert found == ["a", "b"]
    assert await names(database) == {"x", "a", "b"}


async def test_nobody_is_answered_before_the_commit_not_even_with_a_refusal(database: Database):
    last, gone_on = asyncio.Event(), asyncio.Event()

    async def wait(session: AsyncSession) -> None:
        last.set()
        await gone_on.wait()

    tasks = await queued(database, adding("a"), adding("b", refuse=True), wait)
    await last.wait()
    assert not [task for task in tasks if task.done()]
    assert await names(database) == set()
    gone_on.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert (found[0], type(found[1]), found[2]) == ("a", RefusedError, None)


async def test_a_commit_that_fails_fails_for_all_also_for_who_was_refused(database: Database):
    def full(connection: object) -> None:
        raise StorageFullError("the disk is full")

    async def fill(session: AsyncSession) -> None:
        event.listen(database._writer.kw["bind"].sync_engine, "commit", full)

    tasks = await queued(database, adding("a"), adding("b", refuse=True), fill)
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [StorageFullError] * 3
    assert len({id(one) for one in found}) == 3, "each has a traceback of its own"
    event.remove(database._writer.kw["bind"].sync_engine, "commit", full)
    assert await names(database) == set()
    assert await database.write_together(adding("c")) == "c"


async def test_one_that_is_cancelled_leaves_the_line_or_is_made_to_the_end(database: Database):
    begun, gone_on = asyncio.Event(), asyncio.Event()

    async def slow(session: AsyncSession) -> None:
        begun.set()
        await gone_on.wait()
        session.add(Challenge(nonce_sha256="slow", expire_time=1))

    tasks = await queued(database, adding("a"), slow, adding("left"), adding("b"))
    await begun.wait()
    tasks[1].cancel()
    tasks[2].cancel()
    await asyncio.wait(tasks[1:3])
    gone_on.set()
    assert (await tasks[0], await tasks[3]) == ("a", "b")
    assert await names(database) == {"a", "slow", "b"}


async def test_a_full_disk_in_the_middle_fails_for_all(tmp_path: Path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    await migrate(database)

    async def limit(pages: int) -> None:
        async with database.engine.connect() as connection:
            await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    async def much(session: AsyncSession) -> None:
        session.add_all(Challenge(nonce_sha256="x" * 200 + str(n), expire_time=n) for n in range(500))

    async with database.read() as session:
        pages = (await session.execute(text("PRAGMA page_count"))).scalar_one()
    await limit(pages)
    tasks = await queued(database, adding("a"), much, adding("b"))
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [StorageFullError] * 3, "the last has not begun, and has waited in vain too"
    assert await names(database) == set()
    await limit(1_000_000)
    assert await database.write_together(adding("c")) == "c"
    assert database.remark() is None
    await database.close()


async def test_where_another_process_holds_the_database_all_have_waited_with_the_first(tmp_path: Path):
    url = f"sqlite+aiosqlite:///{tmp_path / 'x.db'}"
    database, other = Database(url, busy_timeout_seconds=0.01), Database(url)
    await migrate(database)
    async with other.write():
        tasks = [asyncio.ensure_future(database.write_together(adding(f"n{number}"))) for number in range(3)]
        found = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(one) for one in found] == [StorageHeldError] * 3
    assert await database.write_together(adding("c")) == "c"
    for one in (database, other):
        await one.close()
