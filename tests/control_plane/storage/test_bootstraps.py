"""What proves a machine counts once and for a while: nonces, and answers for whoever asks again."""

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import bootstraps
from control_plane.storage.records.joining import Challenge, IssuedAnswer
from tests.support.tenants import rows

NOW_MS = 1_000_000


async def test_a_nonce_is_used_once(tenants: AsyncSession) -> None:
    for nonce in ("a", "b"):
        bootstraps.add_challenge(tenants, nonce, NOW_MS + 1)
    for _ in range(2):
        assert await bootstraps.is_open(tenants, "a", NOW_MS)
    assert await bootstraps.use_challenge(tenants, "a", NOW_MS)
    await tenants.flush()
    assert not await bootstraps.use_challenge(tenants, "a", NOW_MS)
    assert not await bootstraps.is_open(tenants, "a", NOW_MS)
    assert await bootstraps.use_challenge(tenants, "b", NOW_MS)


async def test_a_nonce_is_good_until_it_expires_and_another_not_at_all(tenants: AsyncSession) -> None:
    bootstraps.add_challenge(tenants, "a", NOW_MS)
    for look in (bootstraps.is_open, bootstraps.use_challenge):
        assert not await look(tenants, "a", NOW_MS)
        assert not await look(tenants, "b", NOW_MS - 1)


@pytest.mark.parametrize("most", [0, 2, 3])
async def test_the_oldest_nonces_make_room(tenants: AsyncSession, most: int) -> None:
    for number in range(3):
        bootstraps.add_challenge(tenants, f"n{number}", NOW_MS + number)
    await tenants.flush()
    await bootstraps.make_room(tenants, most)
    tenants.expunge_all()
    assert await bootstraps.count_challenges(tenants) == most
    assert [await bootstraps.is_open(tenants, f"n{number}", 1) for number in range(3)] == [
        number >= 3 - most for number in range(3)
    ]


async def keep(session: AsyncSession, credential: str, csr_sha256: str, node_id: str, expire_time: int) -> None:
    answer = {"node_id": node_id}
    await bootstraps.keep_answer(
        session, credential, csr_sha256, subject_id=node_id, answer=answer, expire_time=expire_time
    )
    await session.flush()


async def test_an_answer_is_for_its_credential_and_signing_request_until_it_expires(tenants: AsyncSession) -> None:
    await keep(tenants, "token", "csr", "nd-1", NOW_MS)
    await keep(tenants, "other", "csr", "nd-2", NOW_MS)
    found = await bootstraps.find_answer(tenants, "token", "csr", NOW_MS - 1)
    assert found is not None
    assert found.answer == {"node_id": "nd-1"}
    assert await bootstraps.find_answer(tenants, "token", "another", NOW_MS - 1) is None
    assert await bootstraps.find_answer(tenants, "token", "csr", NOW_MS) is None
    assert await bootstraps.has_answer(tenants, "token", NOW_MS - 1)
    assert not await bootstraps.has_answer(tenants, "token", NOW_MS)
    assert not await bootstraps.has_answer(tenants, "unknown", NOW_MS - 1)
    await keep(tenants, "token", "csr", "nd-3", NOW_MS + 2)
    replaced = await bootstraps.find_answer(tenants, "token", "csr", NOW_MS + 1)
    assert replaced is not None
    assert replaced.subject_id == "nd-3"


async def test_only_what_has_expired_is_forgotten(tenants: AsyncSession) -> None:
    for number in range(2):
        bootstraps.add_challenge(tenants, f"n{number}", NOW_MS + number)
        await keep(tenants, f"t{number}", "csr", "nd-1", NOW_MS + number)
    await bootstraps.remove_expired(tenants, NOW_MS + 1)
    assert len(await rows(tenants, Challenge)) == len(await rows(tenants, IssuedAnswer)) == 1
    tenants.expunge_all()
    assert await bootstraps.is_open(tenants, "n1", NOW_MS)
    assert await bootstraps.has_answer(tenants, "t1", NOW_MS)
