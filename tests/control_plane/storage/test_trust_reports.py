"""What machines say of the trust that they hold: how many hold the same, and which of them come first."""

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.rotation.adoption import Machine, ReportedAdoption, Standing
from control_plane.storage.records.nodes import Node
from control_plane.storage.trust_reports import NODE, Reported, count_live, record_all
from tests.support.tenants import NAMES, made_id

ONE, THREE, TWO = (made_id("nd", "a", name) for name in NAMES)
OTHERS = tuple(made_id("nd", "b", name) for name in NAMES)


async def test_machines_that_hold_the_same_are_counted_and_named_where_that_is_asked_for(tenants: AsyncSession):
    await tenants.execute(update(Node).where(Node.node_id.in_((ONE, TWO, THREE, *OTHERS[:2]))).values(confirm_time=5))
    said = [Reported(NODE, ONE, 7, "r", "k"), Reported(NODE, TWO, 7, "r", "k"), Reported(NODE, THREE, 0)]
    await record_all(tenants, [(one, 6) for one in said])
    source = ReportedAdoption()
    silent, follow = Standing(NODE, 0, None, None, 3), Standing(NODE, 7, "r", "k", 2)
    found = [one for one in await source.standings(tenants, 5) if one.kind == NODE]
    assert sorted(found, key=lambda one: one.trust_sequence) == [silent, follow], "one that says nothing is one at 0"
    assert await source.machines(tenants, 5, [follow], 9) == [Machine(ONE, "one", follow), Machine(TWO, "two", follow)]
    assert [one.subject_id for one in await source.machines(tenants, 5, [silent], 9)] == [THREE, *OTHERS[:2]]
    assert [one.subject_id for one in await source.machines(tenants, 5, [silent, follow], 2)] == [ONE, THREE]
    assert await source.machines(tenants, 5, [Standing(NODE, 7, "r", None)], 9) == []
    assert await count_live(tenants, NODE, 6) == []
