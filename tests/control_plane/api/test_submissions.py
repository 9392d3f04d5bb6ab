"""Submissions over the API: rollouts let commands go in waves, stop, survive a restart; listing and cancelling."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from control_plane.settings import ControlPlaneSettings
from tests.support.command_stage import IMPATIENT
from tests.support.control_planes import RunningControlPlane, lay_down, running_control_plane, settings_for
from tests.support.fake_agent import FakeAgent

COMMANDS = "/w/finance/api/2.0/commands"
PATH = "/w/finance/api/2.0/submissions"
NODES = ("vm-1", "vm-2", "vm-3", "vm-4", "vm-5")


def quick(directory: Path, **commands: Any) -> ControlPlaneSettings:
    return settings_for(
        directory,
        commands={"delivery_seconds": 60, "call_timeout_seconds": 20.0, "refresh_timeout_seconds": 20.0, **commands},
        health={"interval_seconds": 60.0, "timeout_seconds": 20.0},
    )


class Stage:
    """A control plane whose fleet runs, with five nodes behind one agent that does as it is told."""

    def __init__(self, plane: RunningControlPlane, agent: FakeAgent) -> None:
        self.plane = plane
        self.agent = agent

    async def submit(self, **rollout: Any) -> dict[str, Any]:
        body = {"command_id": "s-1", "target": {"all": True}, "argv": ["true"], "rollout": rollout}
        return await self.plane.ok("POST", COMMANDS, body)

    async def until(self, condition: Callable[[dict[str, Any]], object], seconds: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while True:
            found = await self.plane.ok("GET", f"{PATH}/s-1")
            if condition(found):
                return found
            assert time.monotonic() < end, found
            await asyncio.sleep(0.02)

    async def ended(self) -> dict[str, Any]:
        return await self.until(lambda found: found["state"] != "RUNNING")

    async def commands(self) -> dict[str, dict[str, Any]]:
        listed = (await self.plane.ok("GET", f"{PATH}/s-1/commands"))["commands"]
        return {command["node"]: command for command in listed}

    def has(self) -> list[str]:
        """The nodes that have heard of a command, in the order of their names."""
        return sorted(host.partition(".")[0] for host, _ in self.agent.commands)

    async def reach(self, *nodes: str) -> None:
        """Wait until exactly these nodes have heard of a command."""
        end = time.monotonic() + 30
        while self.has() != list(nodes):
            assert time.monotonic() < end, self.has()
            await asyncio.sleep(0.02)

    def end(self, node: str, state: str = "SUCCEEDED") -> None:
        for (host, _), document in self.agent.commands.items():
            if host.startswith(f"{node}."):
                document["state"] = state


@asynccontextmanager
async def five_nodes(directory: Path, settings: ControlPlaneSettings) -> AsyncIterator[Stage]:
    agent = FakeAgent(state="RUNNING")
    relay = agent.relay()
    await lay_down(directory, settings, "control-plane-with-five-nodes", enrol)
    async with running_control_plane(directory, settings=settings, dial=relay.dial, fleet=True) as plane:
        yield Stage(plane, agent)
        agent.hold.set()
    await relay.close()


async def enrol(plane: RunningControlPlane) -> None:
    await plane.relay()
    for name in NODES:
        await plane.node(name)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with five_nodes(tmp_path, quick(tmp_path)) as running:
        yield running


@pytest.fixture
async def hurried(tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage that waits for nodes no longer than two seconds, and half a second for an answer."""
    async with five_nodes(tmp_path, quick(tmp_path, delivery_seconds=2, **IMPATIENT)) as running:
        yield running


async def test_waves_follow_each_other_and_concurrency_bounds_them(stage: Stage):
    answer = await stage.submit(canary=1, waves=["40%", "100%"], max_concurrent=1)
    assert answer["submission_id"] == "s-1"
    assert [command["wave"] for command in answer["commands"]] == [1, 2, 2, 3, 3]
    assert answer["commands"][4]["reason"] == "held back: wave 3 of 3 waits for the end of wave 2"
    await stage.reach("vm-1")
    stage.end("vm-1")
    await stage.reach("vm-1", "vm-2")
    held = (await stage.commands())["vm-3"]
    assert (held["state"], held["held"], held["reason"]) == ("QUEUED", True, "held back: at most 1 run at once")
    assert "deliver_before" not in held
    found = await stage.until(lambda found: found["counts"] == {"QUEUED": 3, "RUNNING": 1, "SUCCEEDED": 1})
    assert found["rollout"] == {
        "max_concurrent": 1,
        "max_failures": 0,
        "pause_seconds": 0.0,
        "canary": True,
        "wave": 2,
        "waves": [
            {"wave": 1, "nodes": 1, "counts": {"SUCCEEDED": 1}},
            {"wave": 2, "nodes": 2, "counts": {"QUEUED": 1, "RUNNING": 1}},
            {"wave": 3, "nodes": 2, "counts": {"QUEUED": 2}},
        ],
    }
    for node in NODES[1:]:
        await stage.reach(*NODES[: NODES.index(node) + 1])
        stage.end(node)
    done = await stage.ended()
    assert (done["state"], done["counts"], done["nodes"]) == ("SUCCEEDED", {"SUCCEEDED": 5}, 5)


async def test_a_failed_canary_stops_the_rest_which_no_node_hears_of(stage: Stage):
    await stage.submit(canary=1, waves=[2], max_failures=4)
    await stage.reach("vm-1")
    stage.end("vm-1", "FAILED")
    stopped = await stage.ended()
    assert (stopped["state"], stopped["stop_reason"]) == ("STOPPED", "the canary did not succeed")
    assert stopped["counts"] == {"CANCELLED": 4, "FAILED": 1}
    assert (await stage.commands())["vm-5"]["reason"] == "never sent: the canary did not succeed"
    assert stage.has() == ["vm-1"]
    [event] = await stage.plane.audit(action="submission.stop")
    assert (event["resource"], event["details"]) == ("s-1", {"reason": "the canary did not succeed"})


async def test_a_spent_budget_stops_what_no_node_has_and_lets_the_rest_end(stage: Stage):
    stage.agent.mode["vm-3.finance.trunk.internal"] = "offline"
    await stage.submit(max_concurrent=3, max_failures="20%")
    await stage.reach("vm-1", "vm-2")
    stage.end("vm-1", "FAILED")
    await stage.reach("vm-1", "vm-2", "vm-4")
    stage.end("vm-4", "TIMED_OUT")
    await stage.until(lambda found: found["counts"].get("CANCELLED") == 2)
    assert (await stage.commands())["vm-3"]["state"] == "CANCELLED"
    stage.end("vm-2")
    stopped = await stage.ended()
    assert stopped["stop_reason"] == "the error budget is spent: 2 failed, 1 may"
    assert stopped["counts"] == {"CANCELLED": 2, "FAILED": 1, "SUCCEEDED": 1, "TIMED_OUT": 1}


async def test_a_node_that_is_not_reached_in_time_has_failed(hurried: Stage):
    hurried.agent.mode["vm-1.finance.trunk.internal"] = "offline"
    await hurried.submit(canary=1)
    stopped = await hurried.ended()
    assert stopped["counts"] == {"CANCELLED": 4, "LOST": 1}


async def test_a_node_that_may_have_it_and_cannot_be_asked_has_failed_but_is_not_called_ended(hurried: Stage):
    hurried.agent.mode["vm-1.finance.trunk.internal"] = "silent"
    await hurried.submit(waves=[1], max_failures=1)
    found = await hurried.until(lambda found: found["counts"].get("RUNNING"))
    assert found["counts"] == {"QUEUED": 3, "RUNNING": 1, "UNKNOWN": 1}
    hurried.end("vm-2", "FAILED")
    found = await hurried.until(lambda found: "stop_reason" in found and "QUEUED" not in found["counts"])
    assert found["counts"] == {"CANCELLED": 3, "FAILED": 1, "UNKNOWN": 1}


async def test_a_node_that_falls_silent_in_the_middle_does_not_hold_up_the_rest_for_ever(hurried: Stage):
    await hurried.submit(waves=[1], max_failures=1)
    await hurried.until(lambda found: found["counts"].get("RUNNING"))
    hurried.agent.mode["vm-1.finance.trunk.internal"] = "silent"
    found = await hurried.until(lambda found: found["counts"] == {"QUEUED": 3, "RUNNING": 1, "UNKNOWN": 1})
    assert found["rollout"]["wave"] == 2


async def test_a_pause_lies_between_waves(stage: Stage):
    await stage.submit(waves=[1], pause_seconds=600, max_failures=1)
    await stage.reach("vm-1")
    stage.end("vm-1")
    paused = await stage.until(lambda found: "next_wave_time" in found["rollout"])
    assert paused["rollout"]["next_wave_time"] > time.time() * 1000 + 500_000
    assert stage.has() == ["vm-1"]


async def test_cancelling_a_submission_ends_all_of_it(stage: Stage):
    await stage.submit(max_concurrent=2)
    await stage.reach("vm-1", "vm-2")
    await stage.plane.ok("POST", f"{PATH}/s-1/cancel", {})
    ended = await stage.ended()
    assert (ended["state"], ended["counts"]) == ("STOPPED", {"CANCELLED": 5})
    assert ended["stop_reason"].startswith("cancelled by operator/op-")
    assert (await stage.commands())["vm-4"]["reason"].startswith("never sent: cancelled by operator/op-")
    assert stage.agent.count("POST", "/cancel") == 2
    again = await stage.plane.ok("POST", f"{PATH}/s-1/cancel", {})
    assert again["state"] == "STOPPED"
    assert len(await stage.plane.audit(action="submission.cancel")) == 1


async def test_a_command_that_is_held_back_can_be_cancelled_alone_and_is_asked_of_nobody(stage: Stage):
    answer = await stage.submit(max_concurrent=1)
    await stage.reach("vm-1")
    last = answer["commands"][4]["command_id"]
    assert (await stage.plane.ok("GET", f"{COMMANDS}/{last}"))["state"] == "QUEUED"
    assert (await stage.plane.ok("POST", f"{COMMANDS}/{last}/cancel", {}))["state"] == "CANCELLED"
    for node in NODES[:4]:
        await stage.reach(*NODES[: NODES.index(node) + 1])
        stage.end(node)
    done = await stage.ended()
    assert (done["state"], done["counts"]) == ("FAILED", {"CANCELLED": 1, "SUCCEEDED": 4})


async def test_a_rollout_goes_on_where_another_process_left_it(tmp_path: Path):
    agent = FakeAgent(state="RUNNING")
    relay = agent.relay()
    async with AsyncExitStack() as first:
        plane = await first.enter_async_context(
            running_control_plane(tmp_path, settings=quick(tmp_path), dial=relay.dial, fleet=True)
        )
        await plane.relay()
        for name in NODES:
            await plane.node(name)
        stage = Stage(plane, agent)
        await stage.submit(canary=1, waves=[2])
        await stage.until(lambda found: found["counts"].get("RUNNING"))
    stage.end("vm-1")
    async with running_control_plane(tmp_path, settings=quick(tmp_path), dial=relay.dial, fleet=True) as plane:
        stage.plane = plane
        await stage.reach("vm-1", "vm-2", "vm-3")
        agent.state = "SUCCEEDED"
        stage.end("vm-2")
        stage.end("vm-3")
        assert (await stage.ended())["counts"] == {"SUCCEEDED": 5}
    assert agent.count("PUT") == 5
    await relay.close()


@pytest.mark.parametrize(("silent_seconds", "counts"), [(86_399.0, {"SUCCEEDED": 5}), (86_400.0, {"CANCELLED": 5})])
async def test_a_rollout_that_nodes_may_have_forgotten_is_not_gone_on_with(
    tmp_path: Path, silent_seconds: float, counts: dict[str, int]
):
    """As after a restore from an old backup: what it holds back may have run since."""
    agent = FakeAgent(state="SUCCEEDED")
    relay = agent.relay()
    await lay_down(tmp_path, quick(tmp_path), "control-plane-with-five-nodes", enrol)
    running: dict[str, Any] = {"settings": quick(tmp_path), "dial": relay.dial}
    async with running_control_plane(tmp_path, **running) as plane:
        await Stage(plane, agent).submit(canary=1, waves=[2])
        await plane.control_plane.fleet.commands.conductor.stop_outdated(silent_seconds)
    async with running_control_plane(tmp_path, **running, fleet=True) as plane:
        found = await Stage(plane, agent).ended()
        assert found["counts"] == counts
        assert ("nothing was recorded for a day" in found.get("stop_reason", "")) == ("CANCELLED" in counts)
    assert agent.count("PUT") == counts.get("SUCCEEDED", 0)
    await relay.close()


async def test_what_a_process_that_is_gone_may_have_sent_is_not_called_never_sent(tmp_path: Path):
    agent = FakeAgent(state="RUNNING")
    relay = agent.relay()
    running: dict[str, Any] = {"settings": quick(tmp_path), "dial": relay.dial}
    async with running_control_plane(tmp_path, **running, fleet=False) as plane:
        await plane.relay()
        await plane.node("vm-1")
        body = {"command_id": "c-1", "target": {"node": "vm-1"}, "argv": ["true"]}
        await plane.ok("POST", COMMANDS, body)
        cancelling = asyncio.ensure_future(plane.call("POST", f"{COMMANDS}/c-1/cancel", {}))
        await asyncio.wait_for(cancelling, 30)
    agent.commands["vm-1.finance.trunk.internal", "c-1"] = {"command_id": "c-1", "state": "RUNNING"}
    async with running_control_plane(tmp_path, **running, fleet=True) as plane:
        end = time.monotonic() + 30
        while (found := await plane.ok("GET", f"{COMMANDS}/c-1"))["state"] != "CANCELLED":
            assert time.monotonic() < end, found
            await asyncio.sleep(0.02)
    assert agent.count("POST", "/cancel") == 1, "it was asked of the node, which had it"
    await relay.close()


async def test_a_change_is_waited_for(stage: Stage):
    await stage.submit(max_concurrent=1)
    await stage.reach("vm-1")
    found = await stage.until(lambda found: found["counts"].get("RUNNING"))
    waiting = asyncio.ensure_future(stage.plane.ok("GET", f"{PATH}/s-1?seen={found['revision']}&wait_seconds=30"))
    stage.end("vm-1")
    changed = await asyncio.wait_for(waiting, 20)
    assert changed["revision"] != found["revision"]
    at_once = await stage.plane.ok("GET", f"{PATH}/s-1?seen=another&wait_seconds=30")
    assert at_once["state"] == "RUNNING"


async def test_who_waits_hears_at_once_that_a_node_or_the_workspace_was_deleted(stage: Stage):
    stage.agent.state = "RUNNING"
    body = {"command_id": "s-1", "target": {"all": True}, "argv": ["id"]}
    await stage.plane.ok("POST", COMMANDS, body)
    found = await stage.until(lambda found: found["counts"].get("RUNNING") == len(NODES))
    waiting = asyncio.ensure_future(stage.plane.ok("GET", f"{PATH}/s-1?seen={found['revision']}&wait_seconds=30"))
    await stage.plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    found = await asyncio.wait_for(waiting, 20)
    while "LOST" not in found["counts"]:  # on a slow machine what came before it is news as well
        waiting = asyncio.ensure_future(stage.plane.ok("GET", f"{PATH}/s-1?seen={found['revision']}&wait_seconds=30"))
        found = await asyncio.wait_for(waiting, 20)
    assert found["counts"]["LOST"] == 1
    last = asyncio.ensure_future(stage.plane.call("GET", f"{PATH}/s-1?seen={found['revision']}&wait_seconds=30"))
    await stage.plane.ok("DELETE", f"{stage.plane.account}/workspaces/finance")
    assert (await asyncio.wait_for(last, 20)).status == 404


async def test_submissions_are_listed_page_by_page(stage: Stage):
    stage.agent.state = "SUCCEEDED"
    await stage.submit(max_concurrent=5)
    await stage.ended()
    single = {"command_id": "s-2", "target": {"node": "vm-1"}, "argv": ["id"]}
    await stage.plane.ok("POST", COMMANDS, single)
    first = await stage.plane.ok("GET", f"{PATH}?page_size=1")
    rest = await stage.plane.ok("GET", f"{PATH}?page_size=1&page_token={first['next_page_token']}")
    assert [one["submission_id"] for one in first["submissions"] + rest["submissions"]] == ["s-2", "s-1"]
    assert "rollout" not in first["submissions"][0]
    assert rest["submissions"][0]["counts"] == {"SUCCEEDED": 5}
    page = await stage.plane.ok("GET", f"{PATH}/s-1/commands?page_size=3")
    more = await stage.plane.ok("GET", f"{PATH}/s-1/commands?page_size=3&page_token={page['next_page_token']}")
    assert [one["node"] for one in page["commands"] + more["commands"]] == list(NODES)


async def test_the_same_rollout_again_is_the_same_submission_and_another_is_a_conflict(stage: Stage):
    first = await stage.submit(canary=1)
    again = await stage.submit(canary=1)
    assert [one["command_id"] for one in again["commands"]] == [one["command_id"] for one in first["commands"]]
    body = {"command_id": "s-1", "target": {"all": True}, "argv": ["true"]}
    assert (await stage.plane.call("POST", COMMANDS, body)).status == 409
    assert (await stage.plane.call("POST", COMMANDS, body | {"rollout": {"canary": 2}})).status == 409


@pytest.mark.parametrize(
    "rollout",
    [
        {"max_concurrent": 0},
        {"max_concurrent": "0%"},
        {"max_concurrent": "101%"},
        {"max_concurrent": "5"},
        {"max_failures": -1},
        {"max_failures": "x%"},
        {"waves": [0]},
        {"waves": [1] * 33},
        {"canary": True},
        {"pause_seconds": -1},
        {"pause_seconds": 86_401},
        {"colour": 1},
    ],
)
async def test_bad_rollouts_are_refused(stage: Stage, rollout: dict[str, Any]):
    body = {"command_id": "s-1", "target": {"all": True}, "argv": ["true"], "rollout": rollout}
    assert (await stage.plane.call("POST", COMMANDS, body)).status == 400
    assert (await stage.plane.call("GET", f"{PATH}/s-1")).status == 404


async def test_a_bad_share_is_one_problem_in_words(stage: Stage):
    rollout = {"canary": 0, "waves": ["200%"], "max_failures": "x"}
    body = {"command_id": "s-1", "target": {"all": True}, "argv": ["true"], "rollout": rollout}
    refused = await stage.plane.call("POST", COMMANDS, body)
    assert {problem["field"]: problem["problem"] for problem in refused.document["details"]} == {
        "rollout.canary": "must be a number of nodes, from 1 on, or from 1% to 100% of them",
        "rollout.waves.0": "must be a number of nodes, from 1 on, or from 1% to 100% of them",
        "rollout.max_failures": "must be a number of nodes, or from 0% to 100% of them",
    }


async def test_one_node_needs_no_rollout(stage: Stage):
    body = {"target": {"node": "vm-1"}, "argv": ["true"], "rollout": {"canary": 1}}
    refused = await stage.plane.call("POST", COMMANDS, body)
    assert (refused.status, "several nodes" in refused.document["message"]) == (400, True)
