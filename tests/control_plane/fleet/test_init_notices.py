"""Notices: a node that is to be initialised again is told so, until it has asked; a new node is not, it asks itself."""

import asyncio
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from control_plane.fleet.init_notices import SILENT_SECONDS
from tests.control_plane.api.test_node_inits import NODE, ask
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.fake_agent import FakeAgent
from trunkline.runtime.clock import ManualClock, SystemClock


class Stage:
    def __init__(self, plane: RunningControlPlane, agent: FakeAgent) -> None:
        self.plane = plane
        self.agent = agent
        self.notices = plane.control_plane.fleet.init_notices

    def told(self) -> int:
        return self.agent.count("POST", "/v1/init/notice")

    def nodes(self, state: str) -> float:
        name = f'trunkline_control_plane_nodes_by_init{{state="{state}"}}'
        lines = generate_latest(self.plane.foundation.registry).decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


@pytest.fixture
async def stage(tmp_path: Path):
    agent = FakeAgent()
    relay = agent.relay()
    async with running_control_plane(tmp_path, settings=settings_for(tmp_path), dial=relay.dial) as plane:
        await plane.relay()
        yield Stage(plane, agent)
        agent.hold.set()
    await relay.close()


async def test_only_who_was_asked_for_is_told_and_only_until_it_has_asked(stage: Stage):
    node = await stage.plane.node()
    await stage.notices.tell_all()
    assert (stage.told(), stage.nodes("pending")) == (0, 1)
    await ask(stage.plane, node)
    await stage.plane.ok("POST", f"{NODE}/init", {"run": 2})
    stage.agent.verifier = await stage.plane.verifier()
    for count in (1, 2):
        await stage.notices.tell_all()
        assert stage.told() == count
    assert str(stage.agent.claims[-1].scopes) == "init:notify"
    await ask(stage.plane, node, last_run=1)
    await stage.notices.tell_all()
    assert (stage.told(), stage.nodes("ready"), stage.nodes("pending")) == (2, 1, 0)


async def test_a_node_that_comes_back_is_told_at_once(stage: Stage):
    node = await stage.plane.node()
    await stage.plane.ok("POST", f"{NODE}/init", {"run": 2})
    stage.agent.mode["*"] = "offline"
    await stage.notices.tell_all()
    running = asyncio.create_task(stage.notices.run())
    try:
        stage.notices.returned("nd-somebody-else")
        stage.agent.mode["*"] = ""
        before = stage.told()
        stage.notices.returned(node.node_id)
        async with asyncio.timeout(30):
            while stage.told() == before:  # noqa: ASYNC110 - another end of a link
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_who_is_long_silent_about_its_initialisation_is_told_now_and_then(tmp_path: Path):
    agent, clock = FakeAgent(), ManualClock(now=SystemClock().now())
    relay = agent.relay()
    async with running_control_plane(tmp_path, settings=settings_for(tmp_path), dial=relay.dial, clock=clock) as plane:
        await plane.relay()
        stage = Stage(plane, agent)
        await plane.node()
        agent.verifier = await plane.verifier()
        await stage.notices.tell_all()
        assert stage.told() == 0, "it is new"
        for count in (1, 2):
            clock.advance(SILENT_SECONDS + 1)
            await stage.notices.tell_all()
            await stage.notices.tell_all()
            assert stage.told() == count
    await relay.close()
