"""What the monitor reads of nodes, never what thousands said of their health; and that it writes down what it found."""

from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from control_plane.fleet import health_record
from control_plane.fleet.health_check import Check
from control_plane.fleet.health_record import Finding, HealthRecord, NodeChanges
from control_plane.fleet.health_states import CheckResult, NodeState
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.nodes import HealthObservation, Node
from tests.support.control_planes import running_control_plane

REFUSE = "CREATE TRIGGER refuse BEFORE INSERT ON health_observations BEGIN SELECT RAISE(ABORT, 'no'); END"


async def test_addresses_come_without_what_nodes_said(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        node = await plane.node("vm-1")
        async with plane.database.write() as session:
            await session.execute(update(Node).values(health={"status": "ok", "filling": "x" * 60_000}))
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        assert await record.changes(()) == NodeChanges([node.node_id], [])
        [address] = await record.addresses([node.node_id, "nd-" + "a" * 20])
        assert (address.workspace.workspace, address.node.node) == ("finance", "vm-1")
        assert "health" in inspect(address.node).unloaded


async def test_an_observation_that_could_not_be_written_is_written_the_next_time(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        node = await plane.node("vm-1")
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        record.note(node.node_id, Finding(NodeState.ONLINE, Check(CheckResult.OK), changed=False))
        async with plane.database.write() as session:
            await session.execute(text(REFUSE))
        with pytest.raises(IntegrityError):
            await record.flush()
        async with plane.database.write() as session:
            await session.execute(text("DROP TRIGGER refuse"))
        await record.flush()
        await record.flush()
        async with plane.database.read() as session:
            [observed] = (await session.scalars(select(HealthObservation))).all()
        assert (observed.node_id, observed.state) == (node.node_id, NodeState.ONLINE.value)


async def test_what_could_not_be_written_of_some_keeps_nothing_of_others_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health_record, "NODES_AT_ONCE", 1)
    async with running_control_plane(tmp_path) as plane:
        one, two, three = [(await plane.node(name)).node_id for name in ("vm-1", "vm-2", "vm-3")]
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        for node_id in (one, two, three):
            record.note(node_id, Finding(NodeState.ONLINE, Check(CheckResult.OK), changed=False))
        refused = REFUSE.replace("BEGIN SELECT", f"WHEN NEW.node_id = '{two}' BEGIN SELECT")

        async def observed() -> list[str]:
            async with plane.database.read() as session:
                return list((await session.scalars(select(HealthObservation.node_id))).all())

        async with plane.database.write() as session:
            await session.execute(text(refused))
        with pytest.raises(IntegrityError):
            await record.flush()
        assert await observed() == [one]
        async with plane.database.write() as session:
            await session.execute(text("DROP TRIGGER refuse"))
        await record.flush()
        assert sorted(await observed()) == sorted([one, two, three])


async def test_nodes_that_come_and_go_are_told_until_that_is_followed(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        assert await record.changes(()) == NodeChanges([], [])
        one, two = [(await plane.node(name)).node_id for name in ("vm-1", "vm-2")]
        for _ in range(2):
            assert set((await record.changes(())).come) == {one, two}
            assert await record.changes({one}) == NodeChanges([two], [])
        for _ in range(2):
            assert await record.changes({one, two}) == NodeChanges([], [])
        await plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
        three = (await plane.node("vm-3")).node_id
        for _ in range(2):
            assert await record.changes({one, two}) == NodeChanges([three], [one])
        assert await record.changes({two, three}) == NodeChanges([], [])


async def test_nodes_of_a_workspace_that_is_being_removed_have_gone(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        kept = await plane.node("vm-1")
        removed = await plane.node("vm-1", workspace="sales")
        async with plane.database.write() as session:
            is_it = Workspace.workspace_id == removed.workspace_id
            await session.execute(update(Workspace).where(is_it).values(delete_time=1))
        assert await record.changes({kept.node_id, removed.node_id}) == NodeChanges([], [removed.node_id])
        assert await record.changes({kept.node_id}) == NodeChanges([], [])
