"""Migrations: from nothing to what the tables say, once, and never backwards."""

from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.exc import IntegrityError

from control_plane.storage.database import Database
from control_plane.storage.migrate import UnknownSchemaError, is_migrated, migrate, migration_config
from control_plane.storage.records.audit import AuditEvent


@pytest.fixture
async def database(tmp_path: Path):
    made = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    yield made
    await made.close()


async def test_from_empty_to_what_the_tables_say(database: Database):
    assert not await is_migrated(database)
    await migrate(database)
    assert await is_migrated(database)

    def check(connection: Connection) -> None:
        command.check(migration_config(connection))

    async with database.engine.begin() as connection:
        await connection.run_sync(check)


async def test_twice_is_once(database: Database):
    await migrate(database)
    await migrate(database)


async def test_a_later_schema_is_refused(database: Database):
    await migrate(database)
    async with database.engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UnknownSchemaError, match="later release"):
        await migrate(database)


@pytest.mark.parametrize("statement", [update(AuditEvent).values(actor="x"), delete(AuditEvent)])
async def test_audit_events_cannot_be_changed_or_removed(database: Database, statement):
    await migrate(database)
    async with database.write() as session:
        session.add(AuditEvent(time=1, actor="a", action="b", outcome="ok", details={}))
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as session:
            await session.execute(statement)
    async with database.read() as session:
        assert (await session.scalars(select(AuditEvent.actor))).all() == ["a"]
