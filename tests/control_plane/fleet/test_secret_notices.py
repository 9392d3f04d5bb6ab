"""Notices: a node that is to hold other secrets is told so through the relay, at once, and again when it comes back."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from control_plane.fleet import secret_notices
from tests.control_plane.api.test_node_secrets import confirmed, fetch, grant, report, with_secret
from tests.support.canned_relay import CannedRelay
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.fake_agent import FakeAgent

HOST = "vm-1.finance.trunk.internal"
COMMANDS = "/w/finance/api/2.0/commands"


class Stage:
    def __init__(self, plane: RunningControlPlane, agent: FakeAgent, relay: CannedRelay) -> None:
        self.plane = plane
        self.agent = agent
        self.relay = relay

    async def noticed(self, count: int, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while self.agent.count("POST", "/v1/secrets/notice") < count:  # noqa: ASYNC110 - another end of a link
                await asyncio.sleep(0.01)

    def behind(self) -> str:
        lines = generate_latest(self.plane.foundation.registry).decode().splitlines()
        return next(
            line.rpartition(" ")[2] for line in lines if line.startswith("trunkline_control_plane_secret_nodes_b")
        )


@pytest.fixture
async def stage(tmp_path: Path):
    agent = FakeAgent()
    relay = agent.relay()
    settings = settings_for(tmp_path, health={"interval_seconds": 0.2, "timeout_seconds": 20.0})
    async with running_control_plane(tmp_path, settings=settings, dial=relay.dial, fleet=True) as plane:
        await plane.relay()
        yield Stage(plane, agent, relay)
        agent.hold.set()
    await relay.close()


async def test_a_change_is_told_at_once_and_what_was_taken_is_not_told_again(stage: Stage, monkeypatch):
    notices = stage.plane.control_plane.fleet.secret_notices
    monkeypatch.setattr(notices, "_clock", _Standing(notices._clock))
    node = await confirmed(stage.plane)
    stage.agent.verifier = await stage.plane.verifier()
    await with_secret(stage.plane)
    await stage.plane.control_plane.fleet.secret_notices.tell_all()
    assert stage.agent.count("POST") == 0, "nothing is granted"
    await grant(stage.plane, node="vm-1")
    await stage.noticed(1)
    claims = stage.agent.claims[-1] if stage.agent.claims else None
    assert claims is not None
    answer = await fetch(stage.plane, node)
    await report(stage.plane, node, answer["sequence"], held={"db/password": 1})
    await stage.plane.control_plane.fleet.secret_notices.tell_all()
    assert (stage.agent.count("POST", "notice"), stage.behind()) == (1, "0.0")
    body = {"scope": "db", "key": "password", "string_value": "new"}
    await stage.plane.ok("POST", "/w/finance/api/2.0/secrets/put", body)
    await stage.noticed(2)
    await stage.plane.control_plane.fleet.secret_notices.tell_all()
    assert stage.behind() == "1.0"


async def test_a_node_that_comes_back_is_told_again(stage: Stage):
    await confirmed(stage.plane)
    await with_secret(stage.plane)
    stage.agent.mode[HOST] = "offline"
    await grant(stage.plane, node="vm-1")
    await stage.noticed(1)
    checked = stage.agent.count("GET", "/v1/health")
    async with asyncio.timeout(30):
        while stage.agent.count("GET", "/v1/health") < checked + 2:  # noqa: ASYNC110 - another end of a link
            await asyncio.sleep(0.01)
    before = stage.agent.count("POST", "notice")
    stage.agent.mode.clear()
    await stage.noticed(before + 1)


async def test_a_node_that_does_not_take_them_is_told_ever_more_seldom(stage: Stage, monkeypatch):
    notices = stage.plane.control_plane.fleet.secret_notices
    clock = _Standing(notices._clock)
    monkeypatch.setattr(notices, "_clock", clock)
    await confirmed(stage.plane)
    await with_secret(stage.plane)
    await grant(stage.plane, node="vm-1")
    await stage.noticed(1)
    for _ in range(5):
        await notices.tell_all()
    assert stage.agent.count("POST", "notice") == 1
    clock.advance(secret_notices.LONGEST_PAUSE_SECONDS + 1)
    await notices.tell_all()
    assert stage.agent.count("POST", "notice") == 2


async def test_an_owner_who_takes_no_secrets_is_left_in_peace(stage: Stage):
    node = await confirmed(stage.plane)
    await report(stage.plane, node, 0, accepts=False)
    await with_secret(stage.plane)
    await grant(stage.plane, node="vm-1")
    await stage.plane.control_plane.fleet.secret_notices.tell_all()
    assert (stage.agent.count("POST", "notice"), stage.behind()) == (0, "0.0")


async def submit(stage: Stage, **fields: Any) -> Any:
    body = {"command_id": "c-1", "target": {"node": "vm-1"}, "argv": ["true"], **fields}
    return await stage.plane.call("POST", COMMANDS, body)


async def test_a_command_carries_references_and_the_versions_of_now(stage: Stage):
    await confirmed(stage.plane)
    await with_secret(stage.plane)
    await grant(stage.plane, node="vm-1")
    secrets = {"environment": {"PW": "db/password"}, "files": {"pw": "db/password"}}
    first = await submit(stage, secrets=secrets)
    assert first.status == 201
    assert first.document["commands"][0]["secrets"] == secrets
    async with asyncio.timeout(30):
        while (HOST, "c-1") not in stage.agent.bodies:  # noqa: ASYNC110 - another end of a link
            await asyncio.sleep(0.01)
    sent = json.loads(stage.agent.bodies[HOST, "c-1"])
    assert (sent["secrets"], sent["secret_versions"]) == (secrets, {"db/password": 1})
    put = {"scope": "db", "key": "password", "string_value": "new"}
    await stage.plane.ok("POST", "/w/finance/api/2.0/secrets/put", put)
    assert (await submit(stage, secrets=secrets)).status == 200, "the same order, also after a rotation"
    assert (await submit(stage, secrets={"files": {"pw": "db/password"}})).status == 409
    [event] = await stage.plane.audit(action="command.submit")
    assert event["details"]["secrets"] == ["db/password"]
    assert "hunter2" not in json.dumps([await stage.plane.audit(), first.document, sent])


@pytest.mark.parametrize(
    ("secrets", "status", "said"),
    [
        ({"environment": {"PW": "db/none"}}, 404, "no such secret"),
        ({"environment": {"PW": "web/password"}}, 404, "secrets/list"),
        ({"environment": {"PW": "other/password"}}, 403, "vm-1"),
        ({}, 400, "name 1 to"),
        ({"environment": {"A": "db/password"}}, 400, "both"),
        ({"environment": {"TRUNKLINE_X": "db/password"}}, 400, "agent's own"),
        ({"environment": {"1X": "db/password"}}, 400, "secrets"),
        ({"files": {"../x": "db/password"}}, 400, "secrets"),
        ({"files": {"x": "db"}}, 400, "secrets"),
        ({"files": {f"f{number}": "db/password" for number in range(33)}}, 400, "secrets"),
    ],
)
async def test_references_that_cannot_be_are_refused_before_anything_is_recorded(stage: Stage, secrets, status, said):
    await confirmed(stage.plane)
    await with_secret(stage.plane)
    await with_secret(stage.plane, "other")
    await grant(stage.plane, node="vm-1")
    answer = await submit(stage, secrets=secrets, environment={"A": "b"})
    assert (answer.status, said in json.dumps(answer.document)) == (status, True), answer
    assert (await stage.plane.ok("GET", COMMANDS))["commands"] == []


class _Standing:
    """A clock by which pauses end when the test says so."""

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._monotonic = float(clock.monotonic())

    def now(self) -> float:
        return float(self._clock.now())

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._monotonic += seconds
