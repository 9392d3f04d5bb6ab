"""Migrations: from nothing to what the tables say, once, and never backwards."""

import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, delete, select, text, update
from sqlalchemy.exc import IntegrityError

from control_plane.storage.database import Database
from control_plane.storage.migrate import UnknownSchemaError, is_migrated, migrate, migration_config
from control_plane.storage.records.accounts import Account, Workspace
from control_plane.storage.records.audit import AuditEvent
from control_plane.storage.records.commands import Command
from control_plane.storage.records.init_scripts import InitScript
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.relays import Relay
from control_plane.storage.records.secrets import WorkspaceSecret
from control_plane.storage.records.trust import Lock
from trunkline.version import __version__

VECTORS = Path(__file__).parents[2] / "vectors"
EVERY_RECORD = (Account, Workspace, Node, Relay, Command, InitScript, WorkspaceSecret, Lock, AuditEvent)


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
    with pytest.raises(UnknownSchemaError, match=rf"9999.*later release.*\({__version__}\).*restore the backup"):
        await migrate(database)


async def test_a_database_of_an_earlier_release_is_read_as_before(tmp_path: Path):
    (tmp_path / "x.db").touch(0o600)
    written = sqlite3.connect(tmp_path / "x.db")
    written.executescript((VECTORS / "control-plane-0013.sql").read_text())
    written.close()
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    try:
        await migrate(database)
        async with database.engine.begin() as connection:
            await connection.run_sync(lambda sync: command.check(migration_config(sync)))
        async with database.read() as session:
            found: list[Any] = [(await session.scalars(select(record))).all() for record in EVERY_RECORD]
        assert [len(rows) for rows in found] == [1, 1, 2, 1, 3, 1, 1, 1, 2]
        [_, [workspace], nodes, _, commands, _, [secret], [lock], _] = found
        assert (
            {node.workspace_id for node in nodes} == {one.workspace_id for one in commands} == {workspace.workspace_id}
        )
        assert {(node.node, node.state) for node in nodes} == {("vm-1", "online"), ("vm-2", "offline")}
        assert {(one.state, one.final) for one in commands} == {("SUCCEEDED", True)}
        assert (workspace.delete_time, secret.version, lock.kind) == (None, 1, "node")
    finally:
        await database.close()


def young_ms() -> int:
    return int((time.time() - 29.9 * 86_400) * 1000)


@pytest.mark.parametrize("statement", [update(AuditEvent).values(actor="x"), delete(AuditEvent)])
async def test_audit_events_cannot_be_changed_or_removed(database: Database, statement):
    await migrate(database)
    async with database.write() as session:
        session.add(AuditEvent(time=young_ms(), actor="a", action="b", outcome="ok", details={}))
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as session:
            await session.execute(statement)
    async with database.read() as session:
        assert (await session.scalars(select(AuditEvent.actor))).all() == ["a"]


async def test_audit_events_of_a_month_may_be_removed_and_not_changed(database: Database):
    await migrate(database)
    ages = {"old": young_ms() - 86_400_000, "young": young_ms()}
    async with database.write() as session:
        session.add_all(
            AuditEvent(time=ms, actor=name, action="b", outcome="ok", details={}) for name, ms in ages.items()
        )
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as session:
            await session.execute(update(AuditEvent).where(AuditEvent.actor == "old").values(actor="x"))
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as session:
            await session.execute(delete(AuditEvent))
    async with database.write() as session:
        await session.execute(delete(AuditEvent).where(AuditEvent.actor == "old"))
    async with database.read() as session:
        assert (await session.scalars(select(AuditEvent.actor))).all() == ["young"]
