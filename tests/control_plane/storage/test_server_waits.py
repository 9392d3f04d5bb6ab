"""A PostgreSQL that hangs without refusing: no wait is without an end, a commit's end is unknown, and all goes on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from sqlalchemy import func, select, text

from control_plane.storage.database import Database
from control_plane.storage.errors import MAYBE_DONE, NO_ANSWER, StorageUnreachableError
from control_plane.storage.migrate import migrate
from control_plane.storage.records.joining import Challenge
from tests.support.postgres import Postgres, has_postgres, running_postgres
from tests.support.tcp_forwarder import TcpForwarder, tcp_forwarder

pytestmark = pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed")

TIMEOUT_SECONDS = 0.3
"""Also a server that does answer is not always back by then where the machine has other things to do."""
PATIENT_SECONDS = 20.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    async def prepare(port: int) -> None:
        async with opened(port, PATIENT_SECONDS) as database:
            await migrate(database)

    with running_postgres() as running:
        asyncio.run(prepare(running.port))
        yield running


@pytest.fixture
async def way(server: Postgres) -> AsyncIterator[TcpForwarder]:
    async with tcp_forwarder("127.0.0.1", server.port) as forwarder:
        yield forwarder


@asynccontextmanager
async def opened(port: int, timeout_seconds: float = TIMEOUT_SECONDS) -> AsyncIterator[Database]:
    url = f"postgresql+asyncpg://trunkline@127.0.0.1:{port}/postgres"
    database = Database(url, query_timeout_seconds=timeout_seconds)
    try:
        yield database
    finally:
        async with asyncio.timeout(20):
            await database.close()


@pytest.fixture
async def database(way: TcpForwarder) -> AsyncIterator[Database]:
    async with opened(way.port) as made:
        yield made
        way.resume()


@pytest.fixture
async def straight(server: Postgres) -> AsyncIterator[Database]:
    """Somebody with patience, whose way to the server is never away."""
    async with opened(server.port, PATIENT_SECONDS) as made:
        yield made


async def soon(call: Callable[[], Awaitable[T]]) -> T:
    """Ask until it is answered: the server is there."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except StorageUnreachableError:
                continue


async def fails_in_the_stall(way: TcpForwarder, work: Callable[[], Awaitable[None]]) -> None:
    """Do what stalls the way until it comes to that, and then does not succeed."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await work()
            except StorageUnreachableError:
                if way.stalled:
                    raise


async def begun_in_the_stall(way: TcpForwarder, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
    """Begin what stalls the way, until it has."""
    async with asyncio.timeout(20):
        while True:
            task = asyncio.ensure_future(work())
            while not way.stalled and not task.done():  # noqa: ASYNC110 - the way has no event
                await asyncio.sleep(0.001)
            if way.stalled:
                return task
            with pytest.raises(StorageUnreachableError):
                await task


async def count(database: Database) -> int:
    async with database.read() as session:
        return (await session.scalars(select(func.count()).select_from(Challenge))).one()


async def add(database: Database, name: str) -> None:
    async with database.write() as session:
        await session.merge(Challenge(nonce_sha256=name, expire_time=1))


async def has(database: Database, name: str) -> bool:
    async with database.read() as session:
        return await session.get(Challenge, name) is not None


async def test_a_server_that_swallows_everything_is_away_until_it_goes_on(database: Database, way: TcpForwarder):
    await asyncio.gather(*(soon(lambda: count(database)) for _ in range(4)))
    await soon(lambda: count(database))
    assert database.remark() is None
    way.stall()
    async with asyncio.timeout(20):
        with pytest.raises(StorageUnreachableError):
            await count(database)
        with pytest.raises(StorageUnreachableError):
            await add(database, "away")
    assert "503" in (database.remark() or "")
    way.resume()
    await soon(lambda: add(database, "back"))
    await soon(lambda: count(database))
    assert database.remark() is None


async def test_a_query_that_gets_no_answer_in_mid_transaction(database: Database, way: TcpForwarder):
    async def read() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            way.stall()
            await session.execute(text("SELECT 1"))

    with pytest.raises(StorageUnreachableError, match=NO_ANSWER):
        await fails_in_the_stall(way, read)
    way.resume()
    assert await soon(lambda: count(database)) >= 0


async def test_a_query_that_takes_too_long_is_ended_by_the_server_too(database: Database, straight: Database):
    with pytest.raises(StorageUnreachableError):
        async with database.write() as session:
            await session.execute(text("SELECT pg_sleep(60)"))
    async with asyncio.timeout(20):
        await add(straight, "after-a-sleeper")


async def test_writers_in_the_line_wait_in_vain_once_and_together(database: Database, way: TcpForwarder):
    async def first() -> None:
        async with database.write() as session:
            way.stall()
            await session.execute(text("SELECT 1"))

    waiting = [await begun_in_the_stall(way, first)]
    waiting += [asyncio.create_task(add(database, f"line-{number}")) for number in range(100)]
    async with asyncio.timeout(20):  # a hundred deadlines are thirty seconds
        ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(error) for error in ended} == {StorageUnreachableError}
    way.resume()
    await soon(lambda: add(database, "line-behind"))


async def test_a_commit_without_an_answer_may_be_done(database: Database, straight: Database, way: TcpForwarder):
    async def add_and_lose() -> None:
        async with database.write() as session:
            session.add(Challenge(nonce_sha256="maybe", expire_time=1))
            await session.flush()
            way.stall()

    with pytest.raises(StorageUnreachableError, match=MAYBE_DONE):
        await fails_in_the_stall(way, add_and_lose)
    way.resume()
    async with asyncio.timeout(20):
        await add(straight, "behind-the-lost")  # the line of writers is free again
        known = await has(straight, "maybe")
        await soon(lambda: add(database, "behind-the-lost-2"))
        assert await soon(lambda: has(database, "maybe")) is known  # and what came of it is settled by then


async def test_a_writer_that_was_cut_off_holds_up_others_no_longer_than_a_query_may_take(
    database: Database, straight: Database, way: TcpForwarder
):
    """The server hears nothing of the end of a connection whose network is away; it has only its own clock."""

    async def lose() -> None:
        async with database.write() as session:
            way.stall()
            await session.execute(text("SELECT 1"))

    with pytest.raises(StorageUnreachableError):
        await fails_in_the_stall(way, lose)
    async with asyncio.timeout(20):
        await add(straight, "not-held-up")


async def test_a_server_whose_machine_stands_still(database: Database, server: Postgres):
    await soon(lambda: add(database, "before-the-stop"))
    async with asyncio.timeout(30):
        with server.standing_still():
            for ask in (count(database), add(database, "in-the-stop"), count(database)):
                with pytest.raises(StorageUnreachableError):
                    await ask
        assert await soon(lambda: has(database, "before-the-stop"))
        await soon(lambda: add(database, "after-the-stop"))


async def test_who_is_cancelled_while_it_waits_ends_at_once(database: Database, way: TcpForwarder):
    async def wait() -> None:
        async with database.read() as session:
            await session.execute(text("SELECT 1"))
            way.stall()
            await session.execute(text("SELECT 1"))

    task = await begun_in_the_stall(way, wait)
    task.cancel()
    async with asyncio.timeout(20):
        await asyncio.wait([task])
    assert task.cancelled()
