"""Transactions on a real SQLite file: durable or not at all, one writer at a time, typed errors."""

import asyncio
import contextlib
import gc
import os
import shutil
import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import delete, event, func, select, text

from control_plane.storage.accounts import the_account
from control_plane.storage.database import BUSY_ATTEMPTS, BUSY_TIMEOUT_SECONDS, Database, Writers, writers
from control_plane.storage.errors import (
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageHeldError,
    StorageLostError,
    StorageUnreachableError,
)
from control_plane.storage.migrate import is_migrated, migrate
from control_plane.storage.records.joining import Challenge
from control_plane.storage.sqlite_engines import READERS, FileConnections
from tests.support.threads import no_more_threads


def url(path: Path) -> str:
    return f"sqlite+aiosqlite:///{path / 'x.db'}"


@pytest.fixture
async def database(tmp_path: Path):
    made = Database(url(tmp_path))
    await migrate(made)
    yield made
    await made.close()


async def count(database: Database) -> int:
    async with database.read() as session:
        return (await session.scalars(select(func.count()).select_from(Challenge))).one()


async def test_what_was_written_is_there_for_another_process(database: Database, tmp_path: Path):
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
    with sqlite3.connect(tmp_path / "x.db") as other:
        assert other.execute("SELECT nonce_sha256 FROM challenges").fetchall() == [("a",)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()


async def test_the_writer_is_durable_and_checks_keys(database: Database):
    async with database.write() as session:
        assert (await session.execute(text("PRAGMA synchronous"))).scalar() == 2
        assert (await session.execute(text("PRAGMA foreign_keys"))).scalar() == 1


async def test_however_many_strangers_write_nobody_else_waits_for_more_than_one(database: Database):
    written: list[Writers] = []

    async def write(kind: Writers) -> None:
        writers.set(kind)
        async with database.write():
            written.append(kind)

    crowd = [Writers.STRANGERS, Writers.NODES, Writers.RELAYS] * 20
    async with asyncio.TaskGroup() as group, database.write():
        for kind in crowd:
            group.create_task(write(kind))
        await asyncio.sleep(0)
        group.create_task(write(Writers.OWN))
        await asyncio.sleep(0)
    assert written.index(Writers.OWN) <= 3
    assert len(written) == len(crowd) + 1


async def test_an_exception_leaves_nothing(database: Database):
    async def add_and_fail() -> None:
        async with database.write() as session:
            session.add(Challenge(nonce_sha256="a", expire_time=1))
            await session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await add_and_fail()
    assert await count(database) == 0


async def test_a_log_that_somebody_kept_from_being_emptied_is_told_of_and_small_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("control_plane.storage.database.LARGE_LOG_BYTES", 1_000_000)
    monkeypatch.setattr("control_plane.storage.sqlite_engines.KEPT_LOG_BYTES", 500_000)
    database = Database(url(tmp_path))
    await migrate(database)

    async def write_a_lot() -> None:
        async with database.write() as session:
            await session.execute(text("CREATE TABLE IF NOT EXISTS large (content)"))
            await session.execute(text("INSERT INTO large VALUES (zeroblob(2000000))"))

    async with database.read() as session:
        await session.execute(select(Challenge))
        await write_a_lot()
        await write_a_lot()
        assert "write-ahead log has" in (database.log_remark() or "")
    await write_a_lot()
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
    assert database.log_remark() is None
    await database.close()


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_nothing_is_said_to_be_written_to_a_file_that_is_gone(
    database: Database, tmp_path: Path, is_replaced: bool
):
    await database.connect()
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
    path = tmp_path / "x.db"
    kept = path.rename(path.with_suffix(".kept"))
    if is_replaced:
        shutil.copy(kept, path)

    async def add() -> None:
        async with database.write() as session:
            session.add(Challenge(nonce_sha256="b", expire_time=1))

    with pytest.raises(StorageFullError, match="deleted or replaced while it runs"):
        await add()
    assert await count(database) == 1  # what there is can be read still
    assert "its file, or its log, was deleted or replaced" in (database.remark() or "")
    kept.rename(path)
    await add()
    assert (await count(database), database.remark()) == (2, None)


async def test_without_its_log_nothing_more_is_written_and_what_was_is_saved_at_the_end(tmp_path: Path):
    database = Database(url(tmp_path))
    await migrate(database)
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
    log = tmp_path / "x.db-wal"
    log.unlink()
    for _ in range(2):
        with pytest.raises(StorageFullError, match=r"x\.db-wal, was deleted while it runs; stop it by SIGTERM"):
            async with database.write() as session:
                session.add(Challenge(nonce_sha256="b", expire_time=1))
        log.touch()  # whoever else opens the file makes another
    assert "its file, or its log, was deleted" in (database.remark() or "")
    await database.close()
    with sqlite3.connect(tmp_path / "x.db") as other:
        assert other.execute("SELECT nonce_sha256 FROM challenges").fetchall() == [("a",)]
    other.close()


async def test_a_database_whose_tables_are_gone_is_lost(database: Database, tmp_path: Path):
    assert not database.lost.is_set()
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as other:
        other.execute("DROP TABLE challenges")
    with pytest.raises(StorageLostError):
        await count(database)
    assert database.lost.is_set()


async def test_a_database_that_was_emptied_is_lost(database: Database):
    with pytest.raises(StorageLostError):
        async with database.read() as session:
            await the_account(session)
    assert database.lost.is_set()


async def test_a_cancelled_writer_leaves_nothing_and_holds_nothing(database: Database):
    entered = asyncio.Event()

    async def hold() -> None:
        async with database.write() as session:
            session.add(Challenge(nonce_sha256="a", expire_time=1))
            await session.flush()
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="b", expire_time=1))
    assert await count(database) == 1


async def test_what_a_cancelled_writer_still_does_is_over_when_the_database_is_closed(tmp_path: Path):
    """Its thread cannot be cancelled; whoever opens the file next would find it in use."""
    database = Database(url(tmp_path))
    await migrate(database)
    working = asyncio.Event()
    count_long = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000) SELECT max(i) FROM n"
    )

    async def write() -> None:
        async with database.write() as session:
            working.set()
            await session.execute(text(count_long))

    task = asyncio.create_task(write())
    await working.wait()
    for _ in range(5):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait([task])
    await database.close()
    other = sqlite3.connect(tmp_path / "x.db", timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("ROLLBACK")
    other.close()


async def test_transactions_under_way_end_before_the_database_is_closed(tmp_path: Path):
    """As of a request whose client has gone: who ends the control plane does not wait for its task."""
    database = Database(url(tmp_path))
    await migrate(database)
    begun, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def read() -> None:
        async with database.read() as session:
            begun.release()
            await go_on.wait()
            await session.execute(text("SELECT 1"))

    readers = [asyncio.ensure_future(read()) for _ in range(READERS - 1)]
    for _ in readers:
        await begun.acquire()
    closing = asyncio.ensure_future(database.close())
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(*readers, closing)
    gc.collect()  # of a connection that is still open now, this is told


async def test_many_writers_at_once_all_succeed(database: Database):
    async def add(number: int) -> None:
        async with database.write() as session:
            already = (await session.scalars(select(func.count()).select_from(Challenge))).one()
            session.add(Challenge(nonce_sha256=f"{number}", expire_time=already))

    await asyncio.gather(*(add(number) for number in range(50)))
    async with database.read() as session:
        seen = (await session.scalars(select(Challenge.expire_time))).all()
    assert sorted(seen) == list(range(50))


async def test_readers_do_not_wait_for_a_writer(database: Database):
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
        await session.flush()
        assert await count(database) == 0
    assert await count(database) == 1


async def test_a_reader_cannot_write(database: Database):
    with pytest.raises(StorageFullError):
        async with database.read() as session:
            await session.execute(text("DELETE FROM challenges"))


async def test_another_process_that_holds_the_database_is_a_typed_error(tmp_path: Path):
    database = Database(url(tmp_path), busy_timeout_seconds=0.05)
    await migrate(database)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageBusyError):
        async with database.write():
            pass
    other.execute("ROLLBACK")
    other.close()
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a", expire_time=1))
    await database.close()


async def test_while_another_process_holds_the_database_one_waits_for_all_in_the_line(tmp_path: Path):
    database = Database(url(tmp_path), busy_timeout_seconds=0.05)
    await migrate(database)
    attempts: list[str] = []
    event.listen(
        database.engine.sync_engine,
        "before_cursor_execute",
        lambda _connection, _cursor, statement, *_: attempts.append(statement),
    )
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def add(name: str) -> None:
        async with database.write() as session:
            session.add(Challenge(nonce_sha256=name, expire_time=1))

    refused = await asyncio.gather(*(add(str(number)) for number in range(8)), return_exceptions=True)
    assert [type(one) for one in refused] == [StorageHeldError] * 8
    assert attempts == ["BEGIN IMMEDIATE"] * BUSY_ATTEMPTS
    assert (database.remark() or "").startswith("another process has kept the database for 0 s")
    other.execute("ROLLBACK")
    other.close()
    await add("a")
    assert (await count(database), database.remark()) == (1, None)
    await database.close()


async def test_a_full_disk_is_a_typed_error_and_nothing_is_half_written(database: Database):
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="before", expire_time=1))
    async with database.engine.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageFullError, match="disk is full"):
        async with database.write() as session:
            session.add_all(Challenge(nonce_sha256="x" * 200 + str(n), expire_time=n) for n in range(500))
    assert await count(database) == 1
    assert (database.remark() or "").startswith("the database has taken nothing for 0 s, its disk is full or read-only")
    async with database.engine.connect() as connection:
        await connection.exec_driver_sql("PRAGMA max_page_count=100000")
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="after", expire_time=1))
    assert database.remark() is None


def modes(directory: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in directory.glob("x.db*")}


async def test_nobody_else_may_read_the_files(database: Database, tmp_path: Path):
    await count(database)
    assert modes(tmp_path) == {0o600}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize(
    ("put", "told"),
    [
        (lambda path: (path.touch(), path.chmod(0o620)), "can be read or written by others: chmod 600"),
        (lambda path: (path.touch(), path.chmod(0o604)), "can be read or written by others: chmod 600"),
        (os.mkfifo, "not a regular file"),
        (Path.mkdir, "not a regular file"),
    ],
)
def test_files_that_others_may_have_written_to_are_refused(tmp_path: Path, suffix: str, put, told: str):
    put(tmp_path / f"x.db{suffix}")
    with pytest.raises(StorageError, match=rf"x\.db{suffix} .*{told}"):
        Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path):
    path = tmp_path / "x.db"
    path.touch(0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(StorageError, match=r"x\.db belongs to another user: chown"):
        Database(f"sqlite+aiosqlite:///{path}")


async def test_what_was_deleted_is_scrubbed_from_the_files(database: Database, tmp_path: Path):
    async with database.write() as session:
        session.add(Challenge(nonce_sha256="a-secret-of-somebody", expire_time=1))
    async with database.read() as session:
        await session.execute(select(Challenge))
        async with asyncio.timeout(BUSY_TIMEOUT_SECONDS / 2):
            await database.scrub()  # a reader may be under way, for which nobody waits long
    async with database.write() as session:
        await session.execute(delete(Challenge))
    await database.scrub()
    for name in ("x.db", "x.db-wal", "x.db-shm"):
        assert b"a-secret-of-somebody" not in (tmp_path / name).read_bytes(), name
    assert await count(database) == 0


async def test_a_database_that_is_away_is_a_typed_error_and_no_error_of_a_connection():
    """A ConnectionError would be taken for the going of whoever has asked, and end loops that live on."""
    away = Database("postgresql+asyncpg://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StorageUnreachableError):
        async with away.read():
            pass
    with pytest.raises(StorageUnreachableError):
        async with away.write():
            pass
    for look in (is_migrated, migrate):
        with pytest.raises(StorageUnreachableError):
            await look(away)
    await away.close()


async def test_without_a_thread_for_a_new_connection_the_database_is_busy_for_the_moment(database: Database):
    with no_more_threads(), pytest.raises(StorageBusyError, match="no thread left"):
        await count(database)
    assert await count(database) == 0


async def test_once_connected_it_needs_no_more_threads(database: Database):
    await database.connect()
    together = asyncio.Barrier(READERS)

    async def read() -> int:
        async with database.read() as session:
            await together.wait()
            return (await session.scalars(select(func.count()).select_from(Challenge))).one()

    with no_more_threads():
        async with database.write() as session:
            session.add(Challenge(nonce_sha256="a", expire_time=1))
        assert await asyncio.gather(*(read() for _ in range(READERS))) == [1] * READERS


async def test_what_is_no_database_is_told_as_it_is_connected_to(tmp_path: Path):
    (tmp_path / "x.db").touch(0o600)
    (tmp_path / "x.db").write_bytes(b"none at all" * 1000)
    damaged = Database(url(tmp_path))
    with pytest.raises(StorageError, match="no database"):
        await damaged.connect()
    await damaged.close()


def test_a_connection_that_is_closed_holds_no_lock_though_a_cursor_of_it_is_left(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    connection = FileConnections()._made(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE numbers (number)")
    connection.executemany("INSERT INTO numbers VALUES (?)", [(number,) for number in range(9)])
    connection.execute("BEGIN IMMEDIATE")
    left = connection.execute("SELECT number FROM numbers")
    left.fetchone()
    connection.close()
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.rollback()
    del left
