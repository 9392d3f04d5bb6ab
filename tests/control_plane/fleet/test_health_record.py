"""What the monitor reads of nodes: where they are, and never what thousands of them said of their health."""

from pathlib import Path

from sqlalchemy import inspect, update

from control_plane.fleet.health_record import HealthRecord
from control_plane.storage.records.nodes import Node
from tests.support.control_planes import running_control_plane


async def test_addresses_come_without_what_nodes_said(tmp_path: Path):
    async with running_control_plane(tmp_path) as plane:
        node = await plane.node("vm-1")
        async with plane.database.write() as session:
            await session.execute(update(Node).values(health={"status": "ok", "filling": "x" * 60_000}))
        record = HealthRecord(database=plane.database, clock=plane.foundation.clock, history_interval_seconds=60.0)
        assert await record.node_ids() == {node.node_id}
        [address] = await record.addresses([node.node_id, "nd-" + "a" * 20])
        assert (address.workspace.workspace, address.node.node) == ("finance", "vm-1")
        assert "health" in inspect(address.node).unloaded
