"""The dispatcher: nodes that do not answer hold up nobody else, and what may have been brought is never denied."""

import asyncio
from pathlib import Path

from sqlalchemy import text

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
    async with command_stage(tmp_path) as stage:
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
