"""Refusals: the first is audited at once, a flood is a few rows with counts."""

from pathlib import Path

import pytest

from control_plane.refusal_ledger import MOST_KINDS, MOST_REASONS, RefusalLedger
from control_plane.storage.audit import Actor, AuditFilter, list_events
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageFullError
from control_plane.storage.migrate import migrate
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger

ACTOR = Actor("anonymous", "rq-1", "192.0.2.1")


@pytest.fixture
async def database(tmp_path: Path):
    made = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    await migrate(made)
    yield made
    await made.close()


async def rows(database: Database):
    async with database.read() as session:
        return list(reversed(await list_events(session, AuditFilter(), before=None, most=10_000)))


async def test_a_flood_becomes_few_rows_and_no_refusal_is_uncounted(database: Database):
    clock = ManualClock()
    ledger = RefusalLedger(database=database, clock=clock, log=get_logger("test"))
    for _ in range(24 * 3600):
        ledger.record("GET /x", "wrong token", ACTOR, "hash")
        clock.advance(1.0)
        await ledger.flush()
    found = await rows(database)
    assert len(found) < 35
    counted = sum(row.details["count"] for row in found)
    assert 24 * 3600 - 3600 <= counted <= 24 * 3600
    assert found[0].outcome == "refused: wrong token"
    assert found[0].details == {"count": 1, "source_addresses": ["192.0.2.1"], "evidence_sha256": ["hash"]}


async def test_a_kind_that_was_quiet_is_told_at_once_again(database: Database):
    clock = ManualClock()
    ledger = RefusalLedger(database=database, clock=clock, log=get_logger("test"))
    for _ in range(3):
        ledger.record("GET /x", "wrong token", ACTOR)
        await ledger.flush()
        clock.advance(3 * 3600)
        await ledger.flush()
    assert [row.details["count"] for row in await rows(database)] == [1, 1, 1]


async def test_what_one_says_hides_nothing_of_another(database: Database):
    ledger = RefusalLedger(database=database, clock=ManualClock(), log=get_logger("test"))
    for number in range(MOST_KINDS * 2):
        ledger.record("node.refusal ws-1", f"made up {number}", ACTOR)
    ledger.record("GET /x", "wrong token", ACTOR)
    await ledger.flush()
    found = await rows(database)
    assert len(found) == MOST_REASONS + 2
    assert [row.action for row in found if row.outcome == "refused: wrong token"] == ["GET /x"]
    [others] = [row for row in found if row.outcome == "refused: other"]
    assert (others.action, others.details["count"]) == ("node.refusal ws-1", MOST_KINDS * 2 - MOST_REASONS)


async def test_kinds_are_bounded(database: Database):
    ledger = RefusalLedger(database=database, clock=ManualClock(), log=get_logger("test"))
    for number in range(MOST_KINDS * 3):
        ledger.record(f"GET /{number}", "wrong", ACTOR)
    await ledger.flush()
    found = await rows(database)
    assert len(found) == MOST_KINDS + 1
    assert sum(row.details["count"] for row in found) == MOST_KINDS * 3


async def room(database: Database, more_pages: int) -> None:
    """Let the database grow by so many pages and no more."""
    async with database.engine.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages + more_pages}")


async def test_what_a_full_disk_does_not_take_is_counted_on(database: Database):
    ledger = RefusalLedger(database=database, clock=ManualClock(), log=get_logger("test"))
    for number in range(MOST_KINDS):
        ledger.record(f"GET /{number}", "wrong", ACTOR)
    await room(database, 0)
    with pytest.raises(StorageFullError):
        await ledger.flush()
    ledger.record("GET /0", "wrong", ACTOR)
    await room(database, 1000)
    await ledger.flush()
    found = await rows(database)
    assert sum(row.details["count"] for row in found) == MOST_KINDS + 1
    assert found[0].details == {"count": 2, "source_addresses": ["192.0.2.1"]}
