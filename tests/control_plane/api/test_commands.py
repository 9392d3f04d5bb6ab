"""Commands over the API: recorded before anything else, delivered once, followed to their end, whatever fails."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from control_plane.storage.records.commands import Submission
from tests.support.command_stage import HOST, PATH, Stage, command_stage, quick
from tests.support.control_planes import running_control_plane
from tests.support.fake_agent import FakeAgent


async def test_every_token_of_a_submit_names_the_command_and_the_end_of_them_all(stage: Stage):
    stage.agent.mode["PUT *"] = "reset after"
    await stage.submit()
    while stage.agent.count("PUT") < 2:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    del stage.agent.mode["PUT *"]
    await stage.until("SUCCEEDED")
    submits = [claims for claims in stage.agent.claims if claims.binding is not None]
    assert len({claims.token_id for claims in submits}) == len(submits) >= 2
    [binding] = {claims.binding for claims in submits}
    assert binding.command_id == "c-1"
    assert (binding.submit_until or 0) >= max(claims.expires_at for claims in submits)


async def test_a_command_is_delivered_and_followed(stage: Stage):
    answer = await stage.submit(environment={"A": "b"}, stdin=base64.b64encode(b"hi").decode(), timeout_seconds=5)
    assert (answer["state"], answer["argv"], answer["node"]) == ("QUEUED", ["uname", "-a"], "vm-1")
    done = await stage.until("SUCCEEDED")
    assert (done["exit_code"], done["stdout_bytes"]) == (0, 3)
    assert done["submitted_by"].startswith("operator/op-")
    body = stage.agent.bodies[HOST, "c-1"]
    assert body == b'{"argv":["uname","-a"],"environment":{"A":"b"},"stdin":"aGk=","timeout_seconds":5.0}'
    assert len(stage.relay.links) == 1
    [event] = await stage.plane.audit(action="command.submit")
    assert event["resource"] == "c-1"
    assert "uname" not in str(event)


async def test_submitted_twice_runs_once_and_another_body_is_a_conflict(stage: Stage):
    body = {"command_id": "c-1", "target": {"node": "vm-1"}, "argv": ["true"]}
    answers = await asyncio.gather(*(stage.plane.call("POST", PATH, body) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] * 19 + [201]
    await stage.until("SUCCEEDED")
    again = await stage.plane.call("POST", PATH, body)
    assert (again.status, again.document["commands"][0]["state"]) == (200, "SUCCEEDED")
    for change in ({"argv": ["false"]}, {"target": {"all": True}}, {"timeout_seconds": 1.0}):
        conflict = await stage.plane.call("POST", PATH, body | change)
        assert (conflict.status, conflict.error_code) == (409, "RESOURCE_CONFLICT")
    assert stage.agent.count("PUT") == 1


async def test_targets(stage: Stage):
    await stage.plane.node("vm-2", labels={"role": "web"})
    await stage.plane.node("vm-3", labels={"role": "db"})
    await stage.plane.ok("POST", "/w/finance/api/2.0/clusters", {"cluster": "blue", "nodes": ["vm-1", "vm-3"]})
    for name, target, nodes in [
        ("a", {"all": True}, ["vm-1", "vm-2", "vm-3"]),
        ("b", {"cluster": "blue"}, ["vm-1", "vm-3"]),
        ("c", {"selector": {"role": "web"}}, ["vm-1", "vm-2"]),
    ]:
        body = {"command_id": name, "target": target, "argv": ["true"]}
        found = (await stage.plane.ok("POST", PATH, body))["commands"]
        assert [command["node"] for command in found] == nodes
        assert all(command["command_id"] == f"{name}.{command['node_id']}" for command in found)
        assert (await stage.plane.ok("POST", PATH, body))["commands"][0]["command_id"] == found[0]["command_id"]
    listed = await stage.plane.ok("GET", f"{PATH}?page_size=5")
    rest = await stage.plane.ok("GET", f"{PATH}?page_size=5&page_token={listed['next_page_token']}")
    assert len({one["command_id"] for one in listed["commands"] + rest["commands"]}) == 7
    assert {one["node"] for one in (await stage.plane.ok("GET", f"{PATH}?node=vm-3"))["commands"]} == {"vm-3"}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"target": {}}, 400),
        ({"target": {"node": "vm-1", "all": True}}, 400),
        ({"target": {"all": False}}, 400),
        ({"target": {"node": "vm-9"}}, 404),
        ({"target": {"cluster": "x"}}, 404),
        ({"target": {"selector": {"role": "none"}}}, 400),
        ({"target": {"selector": {}}}, 400),
        ({"argv": []}, 400),
        ({"argv": ["a\x00"]}, 400),
        ({"argv": "true"}, 400),
        ({"argv": ["x" * 130_000]}, 400),
        ({"environment": {"A=B": "c"}}, 400),
        ({"environment": {"": "c"}}, 400),
        ({"environment": {"A": "\x00"}}, 400),
        ({"stdin": "not base64!"}, 400),
        ({"working_directory": "relative"}, 400),
        ({"user": "Root User"}, 400),
        ({"timeout_seconds": 0}, 400),
        ({"timeout_seconds": -1}, 400),
        ({"command_id": "a/b"}, 400),
        ({"command_id": "../x"}, 400),
        ({"command_id": "x" * 129}, 400),
        ({"command_id": "x" * 110, "target": {"all": True}}, 400),
        ({"command_id": "c\n"}, 400),
        ({"colour": "red"}, 400),
    ],
)
async def test_bad_submissions_reach_nobody(stage: Stage, change: dict[str, Any], status: int):
    body = {"command_id": "c-1", "target": {"node": "vm-1"}, "argv": ["true"]} | change
    assert (await stage.plane.call("POST", PATH, body)).status == status
    assert (await stage.plane.ok("GET", PATH))["commands"] == []
    assert stage.agent.count("PUT") == 0


async def test_a_node_that_is_never_reached_loses_the_command_with_the_reason(hurried: Stage):
    hurried.agent.mode[HOST] = "offline"
    await hurried.submit()
    waiting = await hurried.until("UNKNOWN")
    assert "no link here" in waiting["reason"]
    assert waiting["deliver_before"] == waiting["submit_time"] + 2000
    unknown = waiting["unknown"]
    assert (unknown["reason"], unknown["resolves_by"]) == (waiting["reason"], waiting["deliver_before"])
    assert waiting["submit_time"] <= unknown["since"] <= waiting["deliver_before"]
    lost = await hurried.until("LOST")
    assert lost["reason"].startswith("it was not delivered: ")
    assert "no link here" in lost["reason"]
    assert "deliver_before" not in lost
    hurried.agent.mode.clear()
    await asyncio.sleep(0.3)
    assert (await hurried.plane.ok("GET", f"{PATH}/c-1"))["state"] == "LOST"
    assert hurried.agent.commands == {}


async def test_a_node_that_comes_back_in_time_gets_it(stage: Stage):
    stage.agent.mode[HOST] = "offline"
    await stage.submit()
    await stage.until("UNKNOWN")
    stage.agent.mode.clear()
    await stage.until("SUCCEEDED")


@pytest.mark.parametrize("mode", ["reset after", "garbage", "silent"])
async def test_a_lost_reply_is_never_called_lost_while_the_node_may_have_it(impatient: Stage, mode: str):
    stage = impatient
    stage.agent.mode["PUT *"] = mode
    await stage.submit()
    await stage.until("UNKNOWN")
    await asyncio.sleep(2.5)  # past the delivery deadline, with the node silent about it
    found = await stage.plane.ok("GET", f"{PATH}/c-1")
    assert found["state"] in ("UNKNOWN", "SUCCEEDED")
    stage.agent.mode.clear()
    if mode == "reset after":
        await stage.until("SUCCEEDED")
        assert len(stage.agent.commands) == 1


@pytest.mark.parametrize("status", ["400", "403", "409", "422"])
async def test_a_refusal_of_the_node_is_final_and_says_why(stage: Stage, status: str):
    stage.agent.mode[HOST] = status
    await stage.submit()
    lost = await stage.until("LOST")
    assert lost["reason"] == f"the node refused it ({status}): the policy refuses it"


@pytest.mark.parametrize("status", ["429", "503", "507"])
async def test_a_node_that_takes_nothing_at_present_is_asked_again_and_the_waiting_are_told_why(
    hurried: Stage, status: str
):
    hurried.agent.mode[HOST] = status
    await hurried.submit()
    waiting = await hurried.until("UNKNOWN")
    assert waiting["reason"] == f"the node answered {status}: the policy refuses it"
    assert waiting["deliver_before"] == waiting["submit_time"] + 2000
    [listed] = (await hurried.plane.ok("GET", PATH))["commands"]
    assert (listed["reason"], listed["deliver_before"]) == (waiting["reason"], waiting["deliver_before"])
    hurried.agent.mode.clear()
    await hurried.until("SUCCEEDED")


async def test_a_silent_node_makes_the_view_unknown_and_not_the_end(impatient: Stage):
    stage = impatient
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    stage.agent.mode[HOST] = "silent"
    found = await stage.until("UNKNOWN")
    assert found["reason"]
    assert "deliver_before" not in found, "the node has it: its delivery waits for nothing"
    assert "its node's own word" in found["unknown"]["resolves"]
    assert "resolves_by" not in found["unknown"], "nobody can promise when a node answers again"
    stage.agent.mode.clear()
    stage.agent.commands[HOST, "c-1"] |= {"state": "FAILED", "exit_code": 3}
    assert (await stage.until("FAILED"))["exit_code"] == 3


async def test_a_node_that_forgot_it_lost_it(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    stage.agent.commands.clear()
    assert (await stage.until("LOST"))["reason"] == "the node no longer knows this command"


async def test_cancel_at_the_node(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    assert (await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {}))["state"] == "CANCELLED"
    again = await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
    assert again["state"] == "CANCELLED"
    assert stage.agent.count("POST", "/cancel") == 1
    assert len(await stage.plane.audit(action="command.cancel")) == 1


async def test_cancel_before_delivery_never_reaches_the_node(tmp_path: Path):
    async with command_stage(tmp_path, delivery_seconds=60) as stage:
        stage.agent.mode[HOST] = "offline"
        await stage.submit()
        await stage.until("UNKNOWN")
        stage.agent.mode.clear()
        stage.agent.mode["PUT *"] = "offline"
        cancelled = await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
        assert (cancelled["state"], cancelled["reason"]) == ("CANCELLED", "cancelled before it reached the node")
        stage.agent.mode.clear()
        await asyncio.sleep(0.3)
        assert stage.agent.commands == {}


@pytest.mark.parametrize("kind", ["node", "workspace"])
async def test_whoever_waits_for_a_locked_node_is_told_at_once(tmp_path: Path, kind: str):
    async with command_stage(tmp_path, delivery_seconds=60) as stage:
        found = await stage.plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")
        body = {"kind": kind, "id": found[f"{kind}_id"], "lifetime_seconds": 600, "reason": "an alarm"}
        lock = await stage.plane.ok("POST", "/api/2.0/locks", body)
        await stage.submit()
        lost = await stage.until("LOST")
        assert lost["reason"] == f"it was not delivered: the {kind} is locked (`trunkline lock list`)"
        assert stage.agent.count("PUT") == 0
        await stage.plane.ok("DELETE", f"/api/2.0/locks/{lock['lock_id']}")
        await stage.submit(command_id="c-2")
        await stage.until("SUCCEEDED", "c-2")


async def test_a_command_that_may_have_arrived_before_the_lock_is_not_called_lost(tmp_path: Path):
    async with command_stage(tmp_path, delivery_seconds=60) as stage:
        stage.agent.mode["PUT *"] = "reset after"
        await stage.submit()
        await stage.until("UNKNOWN")
        found = await stage.plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")
        body = {"kind": "node", "id": found["node_id"], "lifetime_seconds": 600, "reason": "an alarm"}
        lock = await stage.plane.ok("POST", "/api/2.0/locks", body)
        sent = stage.agent.count("PUT")
        while "locked" not in (await stage.plane.ok("GET", f"{PATH}/c-1")).get("reason", ""):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert stage.agent.count("PUT") <= sent + 1
        stage.agent.mode.clear()
        await stage.plane.ok("DELETE", f"/api/2.0/locks/{lock['lock_id']}")
        await stage.until("SUCCEEDED")


@pytest.mark.parametrize("kind", ["node", "workspace"])
async def test_what_runs_on_a_node_that_is_revoked_is_lost(stage: Stage, kind: str):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    found = await stage.plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")
    stage.agent.mode[HOST] = "offline"
    await stage.plane.ok("POST", "/api/2.0/revocations", {"kind": kind, "id": found[f"{kind}_id"]})
    lost = await stage.until("LOST")
    assert lost["reason"] == f"the {kind} is revoked: how it ended, if it has, will not be known"
    assert lost["end_time"] > 0


async def test_what_runs_on_a_node_that_is_locked_and_away_goes_on(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    found = await stage.plane.ok("GET", "/w/finance/api/2.0/nodes/vm-1")
    stage.agent.mode[HOST] = "offline"
    body = {"kind": "node", "id": found["node_id"], "lifetime_seconds": 600, "reason": "an alarm"}
    await stage.plane.ok("POST", "/api/2.0/locks", body)
    await stage.until("UNKNOWN")
    stage.agent.mode.clear()
    stage.agent.state = "SUCCEEDED"
    await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
    assert (await stage.plane.ok("GET", f"{PATH}/c-1"))["state"] != "LOST"


async def test_deleting_the_node_ends_its_commands(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    await stage.plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    found = await stage.plane.ok("GET", f"{PATH}/c-1")
    assert (found["state"], found["reason"]) == ("LOST", "the node was deleted")


async def sent_of(stage: Stage, command_id: str = "c-1") -> Any:
    """What is still on record of what nodes are to be sent."""
    async with stage.plane.database.read() as session:
        submission = await session.get(Submission, ((await stage.plane.workspace())["workspace_id"], command_id))
    assert submission is not None
    return submission.spec


async def test_the_environment_is_forgotten_once_delivered(stage: Stage):
    await stage.submit(environment={"PASSWORD": "s3cret-value"})
    await stage.until("SUCCEEDED")
    assert await sent_of(stage) is None
    assert "s3cret-value" not in str(await stage.plane.audit())


async def test_the_environment_is_forgotten_with_the_node_that_never_got_it(stage: Stage):
    stage.agent.mode[HOST] = "offline"
    for command_id in ("c-1", "c-2"):
        await stage.submit(command_id=command_id, environment={"PASSWORD": "s3cret-value"})
        assert await sent_of(stage, command_id) is not None
    await stage.plane.ok("DELETE", "/w/finance/api/2.0/nodes/vm-1")
    assert [await sent_of(stage, command_id) for command_id in ("c-1", "c-2")] == [None, None]


async def test_undelivered_and_running_commands_survive_a_restart(tmp_path: Path):
    agent = FakeAgent(state="RUNNING")
    agent.mode["vm-2.finance.trunk.internal"] = "offline"
    relay = agent.relay()
    settings = quick(tmp_path, delivery_seconds=30)
    async with running_control_plane(tmp_path, settings=settings, dial=relay.dial, fleet=True) as plane:
        await plane.relay()
        await plane.node("vm-1")
        await plane.node("vm-2")
        await plane.ok("POST", PATH, {"command_id": "c", "target": {"all": True}, "argv": ["true"]})
        stage = Stage(plane, agent, relay)
        [first, second] = (await plane.ok("GET", PATH))["commands"]
        ids = {one["node"]: one["command_id"] for one in (first, second)}
        await stage.until("RUNNING", ids["vm-1"])
        await stage.until("UNKNOWN", ids["vm-2"])
    agent.mode.clear()
    agent.state = "SUCCEEDED"
    for document in agent.commands.values():
        document |= {"state": "SUCCEEDED", "exit_code": 0}
    async with running_control_plane(tmp_path, settings=settings, dial=relay.dial, fleet=True) as plane:
        stage = Stage(plane, agent, relay)
        for command_id in ids.values():
            await stage.until("SUCCEEDED", command_id)
    assert sorted(key[1] for key in agent.commands) == sorted(ids.values())
    assert agent.count("PUT", ids["vm-1"]) == 1
    await relay.close()


async def test_too_many_open_commands_are_refused(tmp_path: Path):
    async with running_control_plane(tmp_path, settings=quick(tmp_path, most_open_per_workspace=2)) as plane:
        await plane.node("vm-1")
        for number in range(2):
            await plane.ok("POST", PATH, {"command_id": f"c{number}", "target": {"node": "vm-1"}, "argv": ["true"]})
        answer = await plane.call("POST", PATH, {"target": {"node": "vm-1"}, "argv": ["true"]})
        assert (answer.status, answer.error_code) == (429, "RESOURCE_EXHAUSTED")
