"""The health monitor with real links in memory: verdicts, history, recovery, metrics."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from sqlalchemy import update

from control_plane.fleet.health_check import Check, failing_checks
from control_plane.fleet.health_states import CheckResult
from control_plane.storage.records.nodes import Node
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.fake_agent import FakeAgent

HOST = "vm-1.finance.trunk.internal"
NODE = "/w/finance/api/2.0/nodes/vm-1"


@pytest.fixture
def timeout_seconds() -> float:
    """For how long a node's answer is waited for."""
    return 20.0


@pytest.fixture
async def watched(tmp_path: Path, timeout_seconds: float):
    agent = FakeAgent()
    relay = agent.relay()
    settings = settings_for(tmp_path, health={"interval_seconds": 0.1, "timeout_seconds": timeout_seconds})
    async with running_control_plane(tmp_path, settings=settings, dial=relay.dial, fleet=True) as plane:
        await plane.relay()
        await plane.node("vm-1")
        yield plane, agent
        agent.hold.set()
    await relay.close()


async def until(plane: RunningControlPlane, state: str, seconds: float = 30.0) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        found = await plane.ok("GET", f"{NODE}/health")
        if found["state"] == state:
            return found
        assert time.monotonic() < end, found
        await asyncio.sleep(0.05)


def metric(plane: RunningControlPlane, name: str) -> str:
    lines = generate_latest(plane.foundation.registry).decode().splitlines()
    return next(line.rpartition(" ")[2] for line in lines if line.startswith(name))


async def test_a_node_comes_online_goes_and_comes_back(watched: tuple[RunningControlPlane, FakeAgent]):
    plane, agent = watched
    found = await until(plane, "online")
    assert (found["agent_version"], found["load"], found["status"]) == ("9.9", [0, 0, 0], "ok")
    assert metric(plane, 'trunkline_node_up{node="vm-1",workspace="finance"}') == "1.0"
    assert metric(plane, 'trunkline_nodes{state="online"}') == "1.0"
    agent.mode[HOST] = "offline"
    assert "no link here" in (await until(plane, "offline"))["state_reason"]
    assert metric(plane, 'trunkline_node_up{node="vm-1",workspace="finance"}') == "0.0"
    agent.mode.clear()
    await until(plane, "online")
    history = (await plane.ok("GET", f"{NODE}/health/history"))["history"]
    assert all("reason" in one for one in history if one["state"] == "degraded")
    seen = [one["state"] for one in history]
    changes = [state for number, state in enumerate(seen) if number == 0 or seen[number - 1] != state]
    assert changes[0] == "online"
    assert "offline" in changes
    assert changes[-1] in ("online", "pending")
    node = await plane.ok("GET", NODE)
    assert node["relay_id"].startswith("rl-")
    assert node["agent_version"] == "9.9"


@pytest.mark.parametrize("timeout_seconds", [0.3])
@pytest.mark.parametrize("mode", ["silent", "garbage", "reset before", "500"])
async def test_connected_but_not_answering_is_not_online(watched: tuple[RunningControlPlane, FakeAgent], mode: str):
    plane, agent = watched
    await until(plane, "online")
    agent.mode[HOST] = mode
    await until(plane, "offline")


async def test_what_the_agent_says_of_itself_counts(watched: tuple[RunningControlPlane, FakeAgent]):
    plane, agent = watched
    await until(plane, "online")
    agent.status = "degraded"
    agent.health = {"clock_skew": True, "clock_offset_seconds": -312.5}
    assert (await until(plane, "degraded"))["state_reason"] == "its clock is ahead by 312.5 s"
    agent.status = "ok"
    await until(plane, "online")


@pytest.mark.parametrize(
    ("offset_seconds", "told"),
    [
        (61.25, "its clock is behind by 61.25 s"),
        (2**80, "its clock is wrong"),
        (1e300, "its clock is wrong"),
        ("x", "its clock is wrong"),
    ],
)
def test_a_clock_that_is_wrong_is_why_a_node_is_degraded(offset_seconds: object, told: str):
    health = {"status": "degraded", "checks": [], "clock_skew": True, "clock_offset_seconds": offset_seconds}
    assert failing_checks(health) == told


async def test_a_deleted_node_leaves_the_metrics(watched: tuple[RunningControlPlane, FakeAgent]):
    plane, _ = watched
    await until(plane, "online")
    await plane.ok("DELETE", NODE)
    plane.control_plane.fleet.monitor.look_again()
    end = time.monotonic() + 30
    while list(plane.control_plane.fleet.monitor.standings()):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert b'node="vm-1"' not in generate_latest(plane.foundation.registry)


async def test_single_nodes_are_in_the_metrics_up_to_a_bound(tmp_path: Path):
    agent = FakeAgent()
    relay = agent.relay()
    settings = settings_for(tmp_path, health={"interval_seconds": 0.1, "most_nodes_in_metrics": 1})
    async with running_control_plane(tmp_path, settings=settings, dial=relay.dial, fleet=True) as plane:
        await plane.relay()
        await plane.node("vm-1")
        await plane.node("vm-2")
        end = time.monotonic() + 30
        while len(list(plane.control_plane.fleet.monitor.standings())) < 2:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert metric(plane, "trunkline_nodes_without_metrics") == "1.0"
    await relay.close()


@pytest.mark.parametrize("name", ["agent_version", "certificate_root", "anything"])
async def test_text_that_cannot_be_stored_is_a_bad_answer_and_stops_the_watch_of_no_other(
    watched: tuple[RunningControlPlane, FakeAgent], name: str
):
    plane, agent = watched
    await until(plane, "online")
    agent.health = {name: "\ud800"}
    assert "not a health document" in (await until(plane, "offline"))["state_reason"]
    agent.health = {"agent_version": "1.0\0"}
    assert (await until(plane, "online"))["agent_version"] == "1.0\0"
    assert (await plane.ok("GET", NODE))["agent_version"] == "1.0\\x00"


async def test_a_check_costs_no_look_at_all_other_nodes(watched: tuple[RunningControlPlane, FakeAgent]):
    class Counted(dict[str, Any]):
        looks = 0

        def values(self) -> Any:
            Counted.looks += 1
            return super().values()

    plane, agent = watched
    await until(plane, "online")
    monitor = plane.control_plane.fleet.monitor
    monitor._watched = Counted(monitor._watched)
    before = agent.count("GET", "/v1/health")
    while agent.count("GET", "/v1/health") < before + 3:  # noqa: ASYNC110 - another end of a link
        await asyncio.sleep(0.01)
    assert Counted.looks == 0


async def test_a_node_that_is_in_a_state_of_a_later_release_is_not_taken_for_one_that_is_gone(
    watched: tuple[RunningControlPlane, FakeAgent],
):
    plane, agent = watched
    await until(plane, "online")
    agent.health = {"status": "hibernating"}
    assert (await until(plane, "degraded"))["state_reason"] == "the agent says that it is hibernating"


@pytest.mark.parametrize(("age_seconds", "shortest", "longest"), [(0, 0.05, 1.2), (3600, 12.0, 18.0)])
async def test_a_node_that_never_answers_is_asked_often_for_its_first_minute_alone(
    tmp_path: Path, age_seconds: int, shortest: float, longest: float
):
    async with running_control_plane(tmp_path, settings=settings_for(tmp_path)) as plane:
        node = await plane.node("vm-1")
        joined_ms = int((time.time() - age_seconds) * 1000)
        async with plane.database.write() as session:
            await session.execute(update(Node).values(creation_time=joined_ms, confirm_time=joined_ms))
        monitor = plane.control_plane.fleet.monitor
        await monitor._look_for_nodes()
        silence = Check(CheckResult.NOT_REACHED, "no agent of this node is connected")
        pauses = [monitor._take(monitor._watched[node.node_id], silence) for _ in range(9)]
        assert all(shortest <= pause <= longest for pause in pauses)


async def test_a_node_that_never_settles_is_asked_as_others_are(tmp_path: Path):
    """Each change is a row of the history, and a line of the log."""
    async with running_control_plane(tmp_path, settings=settings_for(tmp_path)) as plane:
        node = await plane.node("vm-1")
        monitor = plane.control_plane.fleet.monitor
        await monitor._look_for_nodes()
        watched = monitor._watched[node.node_id]
        well, ill = Check(CheckResult.OK), Check(CheckResult.DEGRADED, "of course")
        pauses = [monitor._take(watched, check) for check in (well, ill) * 40]
        assert max(pauses[:20]) <= 1.2
        assert min(pauses[-20:]) >= 12.0
        for _ in range(40):
            monitor._take(watched, well)
        assert monitor._take(watched, ill) <= 1.2, "one that was calm since is settled soon"
