"""Until when tokens of a key are out, which a step of a rotation waits for: the latest end that was noted counts."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import signers
from control_plane.storage.database import Database
from control_plane.storage.records.record import Record


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'signers.db'}")
    async with database.engine.begin() as connection:
        await connection.run_sync(Record.metadata.create_all)
    async with database.write() as session:
        for name in ("a", "b"):
            signers.add(session, name, "signing-key", {}, {}, 1)
        await session.flush()
        yield session
    await database.close()


async def test_of_all_tokens_of_a_key_the_one_that_ends_last_counts(session: AsyncSession) -> None:
    found: list[tuple[int | None, int | None]] = []
    for until_ms in (100, 50, 100, 200):
        await signers.note_token(session, "a", until_ms)
        rows = [await signers.find(session, name) for name in ("a", "b")]
        for row in rows:
            await session.refresh(row)
        found.append((rows[0].tokens_until if rows[0] else None, rows[1].tokens_until if rows[1] else None))
    assert found == [(100, None), (100, None), (100, None), (200, None)]
