"""Which documents were published here: what a relay holds beside them is of a database that is gone."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import trust_publications

CURRENT = 9


@pytest.fixture
async def session(empty: AsyncSession) -> AsyncSession:
    for sequence in (5, 7):
        await trust_publications.record(empty, sequence, "ours", 1)
    return empty


@pytest.mark.parametrize(
    ("sequence", "fingerprint", "published"),
    [
        (4, "of before the records", True),
        (5, "ours", True),
        (5, "another of the number of the oldest record", False),
        (6, "of a number that was passed over", False),
        (7, "ours", True),
        (7, "another", False),
        (CURRENT, "another", False),
        (CURRENT + 1, "of the future", False),
    ],
)
async def test_what_was_published(session: AsyncSession, sequence: int, fingerprint: str, published: bool) -> None:
    found = await trust_publications.was_published(session, sequence, fingerprint, current=CURRENT)
    assert found is published


async def test_the_same_is_noted_once(session: AsyncSession) -> None:
    await trust_publications.record(session, 7, "ours", 2)
    await session.flush()


async def test_without_any_record_all_is_of_before_them_but_the_future(session: AsyncSession) -> None:
    await trust_publications.remove_old(session, trust_publications.KEPT + 7)
    for sequence, published in ((3, True), (CURRENT, True), (CURRENT + 1, False)):
        assert await trust_publications.was_published(session, sequence, "x", current=CURRENT) is published
