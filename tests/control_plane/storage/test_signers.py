"""Until when tokens of a key are out, which a step of a rotation waits for: the latest end that was noted counts."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import signers


@pytest.fixture
async def session(empty: AsyncSession) -> AsyncSession:
    for name in ("a", "b"):
        signers.add(empty, name, "signing-key", {}, {}, 1)
    await empty.flush()
    return empty


async def test_of_all_tokens_of_a_key_the_one_that_ends_last_counts(session: AsyncSession) -> None:
    found: list[tuple[int | None, int | None]] = []
    for until_ms in (100, 50, 100, 200):
        await signers.note_token(session, "a", until_ms)
        rows = [await signers.find(session, name) for name in ("a", "b")]
        for row in rows:
            await session.refresh(row)
        found.append((rows[0].tokens_until if rows[0] else None, rows[1].tokens_until if rows[1] else None))
    assert found == [(100, None), (100, None), (100, None), (200, None)]
