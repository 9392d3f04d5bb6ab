"""The dispatcher: nodes that do not answer hold up nobody else, and what may have been brought is never denied."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from control_plane.fleet import dispatcher, rollout_conductor
from control_plane.fleet.submissions import Order, RolloutOrder, Target, submit
from control_plane.outputs import keeper
from control_plane.storage import kept_outputs, workspaces
from control_plane.storage.commands import CommandKey
from tests.support.command_stage import HOST, PATH, Stage, command_stage


async def test_a_silent_node_holds_up_no_other(tmp_path: Path):
    async with command_stage(tmp_path, most_at_once=8, call_timeout_seconds=60.0) as stage:
        await stage.plane.node("vm-2")
        stage.agent.mode[HOST] = "silent"
        for number in range(20):
            await stage.submit(command_id=f"silent-{number}")
        async with asyncio.timeout(30):
            while stage.agent.count("PUT") < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await stage.submit(command_id="other", target={"node": "vm-2"})
        await stage.until("SUCCEEDED", "other")
        assert sum(host == HOST for method, host, _ in stage.agent.calls if method == "PUT") == 4
        stage.agent.mode.clear()
        stage.agent.hold.set()


async def test_whatever_waited_for_its_node_is_brought_to_it(tmp_path: Path):
    async with command_stage(tmp_path) as stage:
        for number in range(20):
            await stage.submit(command_id=f"c-{number}")
        for number in range(20):
            await stage.until("SUCCEEDED", f"c-{number}")


async def test_a_delivery_that_cannot_be_recorded_is_not_forgotten(tmp_path: Path):
    refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON commands WHEN NEW.delivered BEGIN SELECT RAISE(ABORT, 'no'); END"
    async with command_stage(tmp_path, refresh_timeout_seconds=0.4) as stage:  # its steps do not end
        stage.agent.state = "RUNNING"
        await execute(stage, refuse)
        await stage.submit()
        while (HOST, "c-1") not in stage.agent.commands:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        stage.agent.mode[HOST] = "offline"
        await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
        await stage.until("UNKNOWN")
        await execute(stage, "DROP TRIGGER refuse")
        stage.agent.mode.clear()
        assert "reason" not in await stage.until("CANCELLED")
        assert stage.agent.count("POST", "/c-1/cancel") == 1


async def execute(stage: Stage, statement: str) -> None:
    async with stage.plane.database.write() as session:
        await session.execute(text(statement))


async def record(stage: Stage, command_id: str, **target: Any) -> dict[str, Any]:
    """Record a submission as one whose commit was not heard of, and return what would be sent again."""
    now_ms = int(stage.plane.foundation.clock.now() * 1000)
    rollout = RolloutOrder(waves=(1,)) if target else None
    order = Order(
        submission_id=command_id,
        target=Target(every=True) if target else Target(node="vm-1"),
        spec={"argv": ["true"]},
        submitted_by="operator/op-1",
        submit_time=now_ms,
        deliver_before=now_ms + 20_000,
        rollout=rollout,
    )
    async with stage.plane.database.write() as session:
        workspace = await workspaces.find(session, "finance")
        assert workspace is not None
        await submit(session, workspace, order, most_open=10)
    return {"command_id": command_id, "target": target or {"node": "vm-1"}, "argv": ["true"]}


async def ended(stage: Stage) -> None:
    """Wait until all commands have succeeded, by a way that asks no node."""
    async with asyncio.timeout(30):
        while {one["state"] for one in (await stage.plane.ok("GET", PATH))["commands"]} != {"SUCCEEDED"}:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_repetition_of_what_was_recorded_unheard_is_delivered(tmp_path: Path):
    async with command_stage(tmp_path) as stage:
        body = await record(stage, "c-1")
        assert (await stage.plane.call("POST", PATH, body)).status == 200
        await ended(stage)


async def test_what_was_recorded_unheard_is_taken_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in (dispatcher, rollout_conductor, keeper):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    async with command_stage(tmp_path) as stage:
        await record(stage, "c-1")
        await record(stage, "c-2", all=True)
        await ended(stage)
        command = await stage.until("SUCCEEDED", "c-1")
        key = CommandKey(
            (await stage.plane.ok("GET", f"{stage.plane.account}/workspaces/finance"))["workspace_id"], "c-1"
        )
        while await stage.plane.control_plane.fleet.commands.kept.find(key, "stdout") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        async with stage.plane.database.write() as session:
            row = await kept_outputs.find(session, key)
            assert row is not None
            row.state = kept_outputs.WANTED
        while await stage.plane.control_plane.fleet.commands.kept.find(key, "stdout") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert command["stdout_bytes"] == 3


async def test_a_command_that_changes_for_ever_is_not_asked_about_as_if_it_were_about_to_end(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(dispatcher, "MOST_QUICK_CHANGES", 1, raising=False)
    stage.agent.state = "RUNNING"
    stage.agent.restless = True
    await stage.submit()
    async with asyncio.timeout(30):
        while stage.agent.count("GET", "/c-1") < 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(2.0)
    assert stage.agent.count("GET", "/c-1") <= 5, "0.3, 0.5, 0.8 and 1.3 s after the first; before each 0.2 s"
