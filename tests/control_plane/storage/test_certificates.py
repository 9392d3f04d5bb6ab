"""Which certificates a subject had: of its own alone, those that are good, and in the order in which they came."""

from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import certificates
from control_plane.storage.records.certificates import Certificate
from control_plane.storage.records.trust import Revocation
from tests.support.tenants import rows

NOW_MS = 1_000_000


def made(serial: str, **values: Any) -> Certificate:
    """Return a certificate of `nd-1`, confirmed, that is good for another hundred milliseconds."""
    defaults: dict[str, Any] = {
        "subject_kind": "node",
        "subject_id": "nd-1",
        "origin": "bootstrap",
        "csr_sha256": "csr",
        "chain": "",
        "issue_time": 10,
        "expire_time": NOW_MS + 100,
        "confirm_time": 10,
    }
    return Certificate(serial=serial, **defaults | values)


async def given(session: AsyncSession, *some: Certificate) -> None:
    session.add_all(some)
    await session.flush()


async def test_the_same_signing_request_finds_the_newest_of_its_subject_that_is_good(tenants: AsyncSession) -> None:
    await given(
        tenants,
        made("old", issue_time=1),
        made("new", issue_time=2),
        made("newest", issue_time=3, csr_sha256="another"),
        made("others", issue_time=4, subject_id="nd-2"),
        made("expired", issue_time=5, expire_time=NOW_MS),
    )
    found = await certificates.find_for_csr(tenants, "nd-1", "csr", NOW_MS)
    assert found is not None
    assert found.serial == "new"
    assert await certificates.find_for_csr(tenants, "nd-1", "csr", NOW_MS + 100) is None


async def test_the_next_is_later_than_all_of_its_subject_whatever_the_clock_says(tenants: AsyncSession) -> None:
    await given(tenants, made("one", issue_time=NOW_MS), made("others", subject_id="nd-2", issue_time=NOW_MS + 50))
    assert await certificates.next_issue_time(tenants, "nd-1", NOW_MS - 5) == NOW_MS + 1
    assert await certificates.next_issue_time(tenants, "nd-1", NOW_MS + 9) == NOW_MS + 9
    assert await certificates.next_issue_time(tenants, "nd-3", NOW_MS) == NOW_MS


async def test_what_a_bootstrap_ends_is_all_that_its_subject_had(tenants: AsyncSession) -> None:
    await given(
        tenants,
        made("before", issue_time=1),
        made("at once", issue_time=10),
        made("this", issue_time=10),
        made("renewed since", issue_time=11, origin="renewal"),
        made("taken back since", issue_time=12, origin="taken_back"),
        made("bootstrapped since", issue_time=13),
        made("expired", issue_time=1, expire_time=NOW_MS),
        made("others", issue_time=1, subject_id="nd-2"),
        made("revoked", issue_time=1),
    )
    for kind, name in (("certificate", "revoked"), ("token", "before")):
        values = {"expire_time": None, "sequence": 1, "creation_time": 1, "revoked_by": "me"}
        tenants.add(Revocation(kind=kind, id=name, **values))
    await tenants.flush()
    this = await certificates.find(tenants, "this")
    assert this is not None
    ended = await certificates.live_before(tenants, this, NOW_MS, most=9)
    assert {one.serial for one in ended} == {"before", "at once", "renewed since", "taken back since"}
    assert len(await certificates.live_before(tenants, this, NOW_MS, most=3)) == 3


@pytest.mark.parametrize(
    ("values", "since_ms"),
    [({"subject_id": "nd-2"}, 9), ({"origin": "renewal"}, 9), ({"confirm_time": None}, 9), ({}, 10)],
)
async def test_a_bootstrap_counts_once_its_subject_has_confirmed_it(
    tenants: AsyncSession, values: dict[str, Any], since_ms: int
) -> None:
    await given(tenants, made("one", **values))
    assert not await certificates.bootstrapped_since(tenants, "nd-1", since_ms)
    await given(tenants, made("two", confirm_time=since_ms + 1))
    assert await certificates.bootstrapped_since(tenants, "nd-1", since_ms)


@pytest.mark.parametrize(
    "values", [{"subject_id": "nd-2"}, {"issue_time": 10}, {"issue_time": 9}, {"confirm_time": None}]
)
async def test_only_a_later_one_that_its_subject_has_confirmed_outdates_one(
    tenants: AsyncSession, values: dict[str, Any]
) -> None:
    this = made("this")
    await given(tenants, this, made("other", **{"issue_time": 11} | values))
    assert not await certificates.is_outdated(tenants, this)
    await given(tenants, made("later", issue_time=11))
    assert await certificates.is_outdated(tenants, this)


async def test_what_is_forgotten(tenants: AsyncSession) -> None:
    times = {"a": NOW_MS - 1, "b": NOW_MS, "c": NOW_MS + 1, "d": NOW_MS + 2, "revoked": NOW_MS + 9, "kept": NOW_MS + 9}
    await given(tenants, *(made(serial, expire_time=at_ms) for serial, at_ms in times.items()))
    for kind, name, expire_time in (
        ("certificate", "revoked", NOW_MS),
        ("certificate", "kept", NOW_MS + 1),
        ("token", "kept", NOW_MS),
    ):
        values = {"sequence": 1, "creation_time": 1, "revoked_by": "me"}
        tenants.add(Revocation(kind=kind, id=name, expire_time=expire_time, **values))
    await tenants.flush()

    async def left() -> set[str]:
        return {serial for (serial,) in await rows(tenants, Certificate)}

    assert not await certificates.remove_expired(tenants, NOW_MS)
    assert await left() == times.keys() - {"a"}
    assert await certificates.remove_expired_between(tenants, NOW_MS, NOW_MS + 1) == 1
    assert await left() == times.keys() - {"a", "c"}
    await certificates.remove_revoked(tenants, NOW_MS + 1)
    assert await left() == times.keys() - {"a", "c", "revoked"}
