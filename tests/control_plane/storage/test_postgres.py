"""Transactions on a real PostgreSQL: one writer at a time in all processes, one moment for a reader, typed errors."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from control_plane.initialise import initialise
from control_plane.storage import audit, bootstraps
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageBusyError, StorageError, StorageUnreachableError, for_the_log
from control_plane.storage.migrate import migrate
from control_plane.storage.records.audit import AuditEvent
from control_plane.storage.records.joining import Challenge
from control_plane.storage.sole_use import SoleUse
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.postgres import Postgres, has_postgres, running_postgres
from trunkline.runtime.logs import get_logger

pytestmark = pytest.mark.skipif(not has_postgres(), reason="PostgreSQL is not installed")

LATE_MS = 10**15
LOG = get_logger("t")


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running_postgres() as running:
        yield running


@pytest.fixture
async def databases(server: Postgres) -> AsyncIterator[tuple[Database, Database]]:
    """Those of two processes over the same tables."""
    made = Database(server.url, busy_timeout_seconds=0.2), Database(server.url, busy_timeout_seconds=0.2)
    await migrate(made[0])
    yield made
    for database in made:
        await database.close()


async def count(database: Database) -> int:
    async with database.read() as session:
        return (await session.scalars(select(func.count()).select_from(Challenge))).one()


async def use(database: Database, nonce: str) -> bool:
    async with database.write() as session:
        return await bootstraps.use_challenge(session, nonce, 1)


async def test_of_two_processes_one_uses_a_nonce(databases: tuple[Database, Database]):
    for number in range(10):
        async with databases[0].write() as session:
            bootstraps.add_challenge(session, f"n{number}", LATE_MS)
        used = await asyncio.gather(*(use(database, f"n{number}") for database in databases))
        assert sorted(used) == [False, True]


async def test_a_writer_waits_for_another_for_a_while(databases: tuple[Database, Database]):
    async with databases[0].write():
        with pytest.raises(StorageBusyError):
            await use(databases[1], "n")
    assert not await use(databases[1], "n")


async def test_a_reader_sees_one_moment_and_changes_nothing(databases: tuple[Database, Database]):
    async with databases[1].read() as session:
        query = select(func.count()).select_from(Challenge)
        assert (await session.scalars(query)).one() == 0
        async with databases[0].write() as writing:
            bootstraps.add_challenge(writing, "n", LATE_MS)
        assert (await session.scalars(query)).one() == 0
    assert await count(databases[1]) == 1
    with pytest.raises(StorageUnreachableError, match="takes no writes"):
        async with databases[1].read() as session:
            await session.execute(text("DELETE FROM challenges"))


async def test_a_server_that_goes_is_told_of_and_found_again(databases: tuple[Database, Database], server: Postgres):
    database = databases[0]
    assert await count(database) == 0
    server.stop()
    with pytest.raises(StorageUnreachableError):
        await count(database)
    with pytest.raises(StorageUnreachableError):
        await use(database, "n")
    with pytest.raises(StorageUnreachableError):
        await migrate(database)
    server.start()
    assert await count(database) == 0
    assert not await use(database, "n")


async def test_a_server_that_goes_in_mid_transaction(databases: tuple[Database, Database], server: Postgres):
    async def add() -> None:
        async with databases[0].write() as session:
            bootstraps.add_challenge(session, "n", LATE_MS)
            await session.flush()
            server.stop()
            server.start()

    with pytest.raises(StorageUnreachableError):
        await add()
    assert await count(databases[0]) == 0


def end_as_they_are_made(engine: AsyncEngine, other: Database) -> None:
    """Have the server end each connection that is there, and has not been prepared yet."""

    async def end_it(driver: Any) -> None:
        async with other.write() as session:
            await session.execute(text(f"SELECT pg_terminate_backend({driver.get_server_pid()}, 20000)"))

    def end(connection: Any, _: object) -> None:
        connection.run_async(end_it)

    event.listen(engine.sync_engine, "connect", end, insert=True)


async def test_a_connection_that_is_ended_as_it_is_made_is_a_database_that_is_away(
    databases: tuple[Database, Database], server: Postgres
):
    database, sole_use = databases[1], SoleUse(server.url, get_logger("t"))
    for engine in (*database._engines, sole_use._engine):
        end_as_they_are_made(engine, databases[0])
    for work in (count(database), use(database, "n"), migrate(database), sole_use.take()):
        with pytest.raises(StorageUnreachableError):
            await work
    await sole_use.close()


async def test_why_a_server_is_not_reached_is_for_the_log_alone():
    sole_use = SoleUse("postgresql+asyncpg://trunkline@127.0.0.1:1/postgres", LOG)
    with pytest.raises(StorageUnreachableError) as away:
        await sole_use.take()
    assert "127.0.0.1" not in str(away.value)
    assert "127.0.0.1" in for_the_log(away.value)
    await sole_use.close()


async def test_roots_that_are_nowhere_are_a_matter_of_settings(
    server: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    database, sole_use = Database(f"{server.url}?ssl=verify-full"), SoleUse(f"{server.url}?ssl=verify-full", LOG)
    for work in (count(database), use(database, "n"), migrate(database), sole_use.take()):
        with pytest.raises(StorageError, match=r"settings say: .*root\.crt") as told:
            await work
        assert not isinstance(told.value, StorageUnreachableError)
    await sole_use.close()
    await database.close()


@pytest.mark.parametrize(("default", "held"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
async def test_what_is_acknowledged_is_on_the_servers_disk_whatever_its_default(
    databases: tuple[Database, Database], default: str, held: str
):
    async with databases[0].write() as session:
        await session.execute(text(f"ALTER DATABASE postgres SET synchronous_commit = {default}"))
    async with databases[1].write() as session:
        assert (await session.scalars(text("SHOW synchronous_commit"))).one() == held


async def test_migrations_take_their_time_whatever_the_servers_bound(databases: tuple[Database, Database]):
    async with databases[0].write() as session:
        await session.execute(text("ALTER DATABASE postgres SET statement_timeout = 50"))
    async with databases[1].engine.connect() as connection:
        assert await connection.scalar(text("SHOW statement_timeout")) == "0"


async def test_a_fault_of_ours_stays_one(databases: tuple[Database, Database]):
    with pytest.raises(DBAPIError):
        async with databases[0].read() as session:
            await session.execute(text("SELECT nothing_of_that_name"))


async def _twins(server: Postgres, tmp_path: Path, stack: AsyncExitStack) -> list[RunningControlPlane]:
    """A control plane, and one on a copy of its state directory, over one database."""
    first, second = tmp_path / "a", tmp_path / "b"
    await initialise(settings_for(first, database={"url": server.url}))
    shutil.copytree(first / "state", second / "state")
    return [
        await stack.enter_async_context(
            running_control_plane(each, settings=settings_for(each, database={"url": server.url}))
        )
        for each in (first, second)
    ]


async def test_two_control_planes_admit_one_machine_by_a_token_for_one(server: Postgres, tmp_path: Path):
    async with AsyncExitStack() as stack:
        planes = await _twins(server, tmp_path, stack)
        await planes[0].workspace()
        for _ in range(3):
            token = await planes[0].join_token()
            bodies = [(await plane.bootstrap_body(token))[0] for plane in planes]
            answers = await asyncio.gather(
                *(
                    plane.call("POST", "/api/2.0/bootstrap", body, token=None)
                    for plane, body in zip(planes, bodies, strict=True)
                )
            )
            assert Counter(answer.status for answer in answers) == {200: 1, 409: 1}


async def test_what_one_revokes_the_other_publishes(server: Postgres, tmp_path: Path):
    async with AsyncExitStack() as stack:
        one, other = await _twins(server, tmp_path, stack)
        revoked = await one.ok("POST", "/api/2.0/revocations", {"kind": "token", "id": "t"})
        trust = other.control_plane.identities.trust
        assert trust.sequence < revoked["sequence"]
        await trust.look()
        assert trust.sequence == revoked["sequence"]
        assert one.control_plane.identities.trust.sequence == trust.sequence


async def test_audit_events_are_removed_once_they_are_old_and_never_changed(databases: tuple[Database, Database]):
    now_ms = int(time.time() * 1000)
    ages = {"old": 31, "young": 29}
    async with databases[0].write() as session:
        for name, days in ages.items():
            session.add(AuditEvent(time=now_ms - days * 86_400_000, actor=name, action="b", outcome="ok", details={}))
    for statement in ("UPDATE audit_events SET actor = 'x'", "DELETE FROM audit_events", "TRUNCATE audit_events"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with databases[0].write() as session:
                await session.execute(text(statement))
    async with databases[0].write() as session:
        assert await audit.remove_before(session, now_ms - 30 * 86_400_000) == 1
    with pytest.raises(StorageError, match="clock"):
        async with databases[0].write() as session:
            await audit.remove_before(session, now_ms)
    async with databases[0].read() as session:
        assert (await session.scalars(select(AuditEvent.actor))).all() == ["young"]
