"""What a relay's report makes of records that are kept for long, and what it is charged for them."""

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import reports
from control_plane.storage.adoptions import CutReport
from control_plane.storage.audit import Actor
from control_plane.storage.records.audit import AuditEvent
from control_plane.storage.records.relays import Relay
from control_plane.storage.reports import MOST_AUDITED, ReportItem

CUT = CutReport("revocation", "token", "t")


@pytest.fixture
async def session(empty: AsyncSession) -> AsyncSession:
    empty.add(Relay(relay_id="rl-1", relay="relay-1", dns_names=["localhost"], creation_time=1))
    await empty.flush()
    return empty


@pytest.mark.parametrize(
    ("items", "records"),
    [
        ([ReportItem("refusal", 1, count=1000)], 0),
        ([ReportItem("cut", 1), ReportItem("clone_alarm", 1)], 2),
        ([ReportItem("cut", 1)] * (MOST_AUDITED + 10), MOST_AUDITED),
        ([ReportItem("trust", 1, sequence=3, cuts=[CUT] * 7)] * 2, 16),
        ([ReportItem("cut", 1), ReportItem("trust", 1, sequence=3)], 2),
    ],
)
def test_each_record_that_is_kept_for_long_is_charged(items: list[ReportItem], records: int) -> None:
    assert reports.records_in(items) == records


async def test_of_one_report_no_more_is_audited_than_it_is_charged_for(session: AsyncSession) -> None:
    items = [ReportItem("cut", 1)] * (MOST_AUDITED + 10)
    assert await reports.take(session, "rl-1", "p", 1, items, dropped=0, actor=Actor("x"), now=1.0)
    assert (await session.scalars(select(func.count()).select_from(AuditEvent))).one() == MOST_AUDITED
