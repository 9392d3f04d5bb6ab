"""A deleted workspace is found no more from the first moment on, and goes in pieces that survive any end."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from control_plane.storage import commands, forgetting
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.forgetting import forget_deleted
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, CommandEvent, Submission
from control_plane.storage.records.nodes import Cluster, HealthObservation, Node
from control_plane.storage.records.record import Record
from control_plane.storage.records.secrets import SecretDataKey, SecretScope
from tests.support.control_planes import RunningControlPlane, running_control_plane

TABLES = (Command, Submission, CommandEvent, Node, HealthObservation, Cluster, SecretScope, SecretDataKey)
HISTORY = 7


@pytest.fixture
async def plane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningControlPlane]:
    for bound in ("BATCH", "EVENT_BATCH", "NODE_BATCH"):
        monkeypatch.setattr(forgetting, bound, 2)
    async with running_control_plane(tmp_path) as running:
        yield running


async def left(database: Database, workspace_id: str) -> dict[str, int]:
    """Return how many rows there are, of this workspace where rows say of which they are, by table."""
    found: dict[str, int] = {}
    async with database.read() as session:
        for table in TABLES:
            query = select(func.count()).select_from(table)
            if "workspace_id" in table.__table__.columns:
                query = query.where(table.__table__.columns["workspace_id"] == workspace_id)
            found[table.__tablename__] = (await session.scalars(query)).one()
    return found


async def filled(plane: RunningControlPlane, name: str) -> str:
    """Make a workspace with something of everything in it; returns its id."""
    node = await plane.node("vm-1", name)
    path = f"/w/{name}/api/2.0"
    await plane.ok("POST", f"{path}/clusters", {"cluster": "c", "nodes": ["vm-1"]})
    await plane.ok("POST", f"{path}/secrets/scopes/create", {"scope": "s"})
    await plane.ok("POST", f"{path}/secrets/put", {"scope": "s", "key": "k", "string_value": "v"})
    for number in range(HISTORY):
        body = {"command_id": f"c-{number}", "target": {"node": "vm-1"}, "argv": ["true"]}
        await plane.ok("POST", f"{path}/commands", body)
    rollout = {"target": {"all": True}, "argv": ["true"], "rollout": {"max_concurrent": 1}}
    await plane.ok("POST", f"{path}/commands", {"command_id": "r", **rollout})
    observations = [
        {"node_id": node.node_id, "time": time, "state": "ready", "result": "ok"} for time in range(HISTORY)
    ]
    async with plane.database.write() as session:
        await session.execute(insert(HealthObservation), observations)
    return node.workspace_id


async def pieces(database: Database) -> AsyncIterator[None]:
    """Remove what is left, a transaction at a time."""
    more = True
    while more:
        async with database.write() as session:
            more = (await forget_deleted(session)).more
        yield


async def test_nothing_of_it_is_found_from_the_first_moment_on(plane: RunningControlPlane):
    workspace_id = await filled(plane, "gone")
    await plane.ok("DELETE", f"{plane.account}/workspaces/gone")
    for address in ("gone", workspace_id):
        path = f"/w/{address}/api/2.0"
        submit = {"target": {"all": True}, "argv": ["true"]}
        assert (await plane.call("POST", f"{path}/commands", submit)).status == 404
        assert (await plane.call("GET", f"{path}/commands/c-1")).status == 404
        assert (await plane.call("POST", f"{path}/join-tokens", {"lifetime_seconds": 60})).status == 404
        assert (await plane.call("GET", f"{plane.account}/workspaces/{address}")).status == 404
    assert await plane.ok("GET", f"{plane.account}/workspaces") == {"workspaces": []}
    async with plane.database.read() as session:
        command = await commands.find(session, CommandKey(workspace_id, "c-1"))
        assert command is not None
        assert await commands.node_of(session, command) is None  # so that it is delivered to nobody
        rollouts = select(Submission.submission_id).where(Submission.rollout_open)
        assert (await session.scalars(rollouts)).all() == []
    assert (await left(plane.database, workspace_id))["secret_data_keys"] == 0
    assert (await plane.workspace("gone"))["workspace_id"] != workspace_id


async def test_it_goes_in_small_pieces_and_others_stay(plane: RunningControlPlane):
    kept_id, gone_id = await filled(plane, "kept"), await filled(plane, "gone")
    kept = await left(plane.database, kept_id)
    await plane.ok("DELETE", f"{plane.account}/workspaces/gone")
    sizes = [await left(plane.database, gone_id)]
    sizes += [await left(plane.database, gone_id) async for _ in pieces(plane.database)]
    assert all(before["commands"] - after["commands"] <= 2 for before, after in pairwise(sizes))
    assert {count for name, count in sizes[-1].items() if name != "health_observations"} == {0}
    assert sizes[-1]["health_observations"] == HISTORY  # those of the other
    assert await left(plane.database, kept_id) == kept | {"health_observations": HISTORY}
    async with plane.database.read() as session:
        assert await session.get(Workspace, gone_id) is None


async def test_one_that_was_killed_in_between_goes_on_at_its_next_start(plane: RunningControlPlane, tmp_path: Path):
    gone_id = await filled(plane, "gone")
    await plane.ok("DELETE", f"{plane.account}/workspaces/gone")
    async for _ in pieces(plane.database):
        break
    assert (await left(plane.database, gone_id))["commands"] > 0
    async with running_control_plane(tmp_path) as after:
        await after.control_plane.removal.finish()
        assert set((await left(after.database, gone_id)).values()) == {0}


def test_everything_that_a_workspace_holds_goes_with_it():
    """A table that is new, and stands on workspaces, has to be thought of: the last piece would fail on it."""
    standing = {
        table.name
        for table in Record.metadata.sorted_tables
        for key in table.foreign_keys
        if key.column.table.name == "workspaces" and (key.ondelete or "") != "CASCADE"
    }
    assert standing == {"commands", "submissions", "nodes", "clusters", "join_tokens"}
