"""What machines say of the trust that they hold: how many hold the same, and which of them come first."""

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.rotation.adoption import Machine, ReportedAdoption, Standing
from control_plane.storage import nodes, revocations
from control_plane.storage.records.nodes import Node
from control_plane.storage.records.trust import TrustReport
from control_plane.storage.trust_reports import NODE, Reported, count_live, of_gone, record_all, remove
from tests.support.tenants import NAMES, made_id

ONE, THREE, TWO = (made_id("nd", "a", name) for name in NAMES)
OTHERS = tuple(made_id("nd", "b", name) for name in NAMES)


async def test_what_is_forgotten_is_found_first_and_looked_at_again_as_it_goes(tenants: AsyncSession):
    await tenants.execute(update(Node).where(Node.node_id.in_(OTHERS)).values(confirm_time=5))
    assert set(await nodes.unconfirmed(tenants, 2)) == {ONE, TWO, THREE}
    assert await nodes.unconfirmed(tenants, 1) == []
    await record_all(tenants, [(Reported(NODE, one, 7), 6) for one in (ONE, OTHERS[0])])
    assert ONE not in await of_gone(tenants)
    await tenants.execute(update(Node).where(Node.node_id == TWO).values(confirm_time=5))
    await nodes.remove_unconfirmed(tenants, [ONE, TWO, THREE])
    left = set((await tenants.scalars(select(Node.node_id))).all())
    assert left & {ONE, TWO, THREE} == {TWO}
    assert ONE in await of_gone(tenants)
    await remove(tenants, await of_gone(tenants))
    assert await of_gone(tenants) == []
    assert OTHERS[0] in set((await tenants.scalars(select(TrustReport.subject_id))).all())


async def test_nodes_that_are_revoked_are_waited_for_no_more(tenants: AsyncSession):
    await tenants.execute(update(Node).where(Node.node_id.in_((ONE, TWO, *OTHERS))).values(confirm_time=5))
    workspace_id = await tenants.scalar(select(Node.workspace_id).where(Node.node_id == OTHERS[0]))
    assert workspace_id is not None
    for kind, name in (("node", ONE), ("workspace", workspace_id)):
        await revocations.revoke(tenants, kind, name, expire_time=None, revoked_by="operator", now_ms=6)
    [standing] = [one for one in await ReportedAdoption().standings(tenants, 5) if one.kind == NODE]
    assert standing.number == 1
    assert [one.subject_id for one in await ReportedAdoption().machines(tenants, 5, [standing], 9)] == [TWO]


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
