"""One control plane a database: the second is refused, the first is told when another has taken its place."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from structlog.testing import capture_logs

from control_plane.initialise import initialise
from control_plane.storage import sole_use
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageUnreachableError
from control_plane.storage.sole_use import DatabaseTakenError, SoleUse
from control_plane.take_back import take_back
from tests.support.control_planes import settings_for
from tests.support.postgres import has_postgres, running_postgres
from trunkline.runtime.daemon import StartError
from trunkline.runtime.logs import get_logger

needs_postgresql = pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with running_postgres() as postgres:
        yield postgres.url


@pytest.fixture
async def database(server: str) -> AsyncIterator[Database]:
    database = Database(server)
    yield database
    await database.close()


async def end_connections(database: Database) -> None:
    """What a restart of the server does to all others; it has ended them by the end."""
    async with database.write() as session:
        end = "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
        await session.execute(text(f"{end} AND backend_type = 'client backend'"))


async def take_from_one_that_goes(use: SoleUse) -> None:
    """Take it as soon as the server has seen that another connection has ended, or is to end."""
    async with asyncio.timeout(30):
        while True:
            try:
                await use.take()
            except (DatabaseTakenError, StorageUnreachableError):
                await asyncio.sleep(0.02)
            else:
                return


@needs_postgresql
async def test_the_second_is_refused_until_the_first_has_ended(server: str):
    first, second = SoleUse(server, get_logger("t")), SoleUse(server, get_logger("t"))
    await first.take()
    with pytest.raises(DatabaseTakenError, match="another control plane"):
        await second.take()
    await first.close()
    await second.take()
    await second.close()


@needs_postgresql
async def test_one_whose_connection_was_lost_ends_all_the_same(server: str, database: Database):
    use = SoleUse(server, get_logger("t"))
    await use.take()
    await end_connections(database)
    assert use._connection is not None
    with pytest.raises(DBAPIError):
        await use._connection.execute(text("SELECT 1"))
    await use.close()


@needs_postgresql
async def test_a_command_line_leaves_the_database_to_a_control_plane_that_runs(server: str, tmp_path: Path):
    """Its migrations would be of another version, and its operator token in place of the one that is in use."""
    running = SoleUse(server, get_logger("t"))
    await running.take()
    settings = settings_for(tmp_path, database={"url": server})
    with pytest.raises(StartError, match="nothing was damaged: another control plane uses this database"):
        await initialise(settings)
    document = tmp_path / "trust-document.jws"
    document.write_text("x")
    with pytest.raises(StartError, match="nothing was taken back: another control plane uses this database"):
        await take_back(document, settings)
    await running.close()


@needs_postgresql
async def test_a_lock_that_was_lost_is_taken_again(server: str, database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sole_use, "LOOK_SECONDS", 0.01)
    first, second = SoleUse(server, get_logger("t")), SoleUse(server, get_logger("t"))
    await first.take()
    await end_connections(database)
    keeping = asyncio.create_task(first.keep())
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    async with asyncio.timeout(30):
        while await count(database, held) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    with pytest.raises(DatabaseTakenError):
        await second.take()
    keeping.cancel()
    await asyncio.wait([keeping])
    await first.close()
    await second.close()


@needs_postgresql
async def test_who_has_lost_it_to_another_is_told(server: str, database: Database, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sole_use, "LOOK_SECONDS", 0.01)
    first, second = SoleUse(server, get_logger("t")), SoleUse(server, get_logger("t"))
    await first.take()
    await end_connections(database)
    await second.take()
    with pytest.raises(DatabaseTakenError):
        await first.keep()
    await first.close()
    await second.close()


@needs_postgresql
async def test_who_is_let_in_no_more_waits_until_that_is_mended(
    server: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sole_use, "LOOK_SECONDS", 0.01)
    await alter(database, "CREATE ROLE guest LOGIN")
    with capture_logs() as lines:
        use = SoleUse(server.replace("trunkline@", "guest@"), get_logger("t"))
        await use.take()
        keeping = asyncio.create_task(use.keep())
        await alter(database, "ALTER ROLE guest NOLOGIN")
        await end_connections(database)
        async with asyncio.timeout(30):
            while not any("may not log in" in line.get("reason", "") for line in lines):
                assert not keeping.done()
                await asyncio.sleep(0.01)
        await alter(database, "ALTER ROLE guest LOGIN")
        async with asyncio.timeout(30):
            while use._connection is None and not keeping.done():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
    await use.close()


@needs_postgresql
async def test_a_server_that_takes_no_writes_is_left_for_where_its_name_leads(
    server: str, database: Database, monkeypatch: pytest.MonkeyPatch
):
    """A standby has taken over, and whoever was connected before is connected to what is no more than a standby."""
    monkeypatch.setattr(sole_use, "LOOK_SECONDS", 0.01)
    use = SoleUse(server, get_logger("t"))
    await use.take()
    own = Database(server, sole_use=use.key)
    before = {await backend(own.write), await backend(own.read)}
    keeping = asyncio.create_task(use.keep())
    async with read_only(database):
        with pytest.raises(StorageUnreachableError):
            await alter(own, "CREATE TABLE unwritten ()")
        async with asyncio.timeout(30):
            while use._connection is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(StorageUnreachableError, match="takes no writes"):
            await SoleUse(server, get_logger("t")).take()
    async with asyncio.timeout(30):
        while await held(database, use) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert not before & {await backend(own.write), await backend(own.read)}
    assert not keeping.done()
    keeping.cancel()
    await asyncio.wait([keeping])
    await own.close()
    await use.close()


@asynccontextmanager
async def read_only(database: Database) -> AsyncIterator[None]:
    """What sessions that stand find too, as soon as the server has read it."""
    try:
        await configure(database, "SET default_transaction_read_only = on", "on")
        yield
    finally:
        await configure(database, "RESET default_transaction_read_only", "off")


async def configure(database: Database, change: str, expected: str) -> None:
    async with database.engine.connect() as made:
        connection = await made.execution_options(isolation_level="AUTOCOMMIT")
        await connection.execute(text(f"ALTER SYSTEM {change}"))
        await connection.execute(text("SELECT pg_reload_conf()"))
        async with asyncio.timeout(30):
            while await connection.scalar(text("SHOW default_transaction_read_only")) != expected:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def backend(transaction: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> int:
    async with transaction() as session:
        return int((await session.execute(text("SELECT pg_backend_pid()"))).scalar_one())


async def held(database: Database, use: SoleUse) -> int:
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND mode = 'ExclusiveLock'"
    return await count(database, f"{locks} AND (classid::bigint << 32) + objid::bigint = {use.key}")


async def alter(database: Database, statement: str) -> None:
    async with database.write() as session:
        await session.execute(text(statement))


async def count(database: Database, query: str) -> int:
    async with database.read() as session:
        return int((await session.execute(text(query))).scalar_one())


@needs_postgresql
async def test_who_has_lost_it_writes_nothing_even_before_it_is_told(server: str, database: Database):
    first, second = SoleUse(server, get_logger("t")), SoleUse(server, get_logger("t"))
    await first.take()
    own = Database(server, sole_use=first.key)
    async with own.write():
        pass
    await end_connections(database)
    for another in (False, True):
        if another:
            await second.take()
        with pytest.raises(StorageUnreachableError, match="lost its hold"):
            async with own.write():
                pass
        async with own.read():
            pass
    await second.close()
    await first.close()
    await take_from_one_that_goes(first)
    async with own.write():
        pass
    await own.close()
    await first.close()


@needs_postgresql
async def test_a_session_of_its_own_that_the_network_has_left_is_no_other_control_plane(server: str):
    """The server has not heard that the connection has ended, and may not hear it for half a minute."""
    left, again, other = (SoleUse(server, get_logger("t")) for _ in range(3))
    await left.take()
    again.key = left.key
    with pytest.raises(DatabaseTakenError):
        await other.take()
    with pytest.raises(StorageUnreachableError, match="own last connection"):
        await again.take()
    await take_from_one_that_goes(again)
    with pytest.raises(DatabaseTakenError):
        await other.take()
    for use in (left, again, other):
        await use.close()


async def test_a_database_that_is_away_is_no_database_that_is_taken():
    away = SoleUse("postgresql+asyncpg://nobody@127.0.0.1:1/nothing", get_logger("t"))
    with pytest.raises(StorageUnreachableError):
        await away.take()
    await away.close()


async def test_a_file_needs_no_lock_of_its_own(tmp_path: Path):
    uses = [SoleUse(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}", get_logger("t")) for _ in range(2)]
    for use in uses:
        await use.take()
    for use in uses:
        await use.close()
