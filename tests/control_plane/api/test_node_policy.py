"""What a node's owner allows, asked of the node; and commands by the names that the owner gave."""

import json
from pathlib import Path

import pytest

from tests.support.command_stage import HOST, PATH, Stage, command_stage
from trunkline.cli.output import print_tree
from trunkline.client.records.nodes import NodePolicy

POLICY = "/w/finance/api/2.0/nodes/vm-1/policy"


@pytest.fixture
async def stage(tmp_path: Path):
    async with command_stage(tmp_path) as stage:
        yield stage


async def test_the_nodes_own_words_under_its_own_name(stage: Stage):
    stage.agent.policy = {"commands": {"allow": "named"}, "node": "vm-9", "node_id": "nd-x", "later": [1]}
    document = await stage.plane.ok("GET", POLICY)
    assert (document["commands"], document["node"], document["later"]) == ({"allow": "named"}, "vm-1", [1])
    assert document["node_id"].startswith("nd-")
    assert document["node_id"] != "nd-x"
    assert any("command:read" in claims.scopes.names for claims in stage.agent.claims)  # others are of health


@pytest.mark.parametrize(
    ("mode", "code"),
    [
        ("offline", "NODE_UNREACHABLE"),
        ("404", "BAD_NODE_RESPONSE"),
        ("500", "BAD_NODE_RESPONSE"),
        ("garbage", "NODE_UNREACHABLE"),
    ],
)
async def test_a_node_that_cannot_say(stage: Stage, mode: str, code: str):
    stage.agent.mode["GET *"] = mode
    answer = await stage.plane.call("GET", POLICY)
    assert (answer.status, answer.error_code) == (502, code)


@pytest.mark.parametrize("policy", [[], "x", None, 5])
async def test_an_answer_that_is_no_policy(stage: Stage, policy: object):
    stage.agent.policy = policy
    assert (await stage.plane.call("GET", POLICY)).error_code == "BAD_NODE_RESPONSE"


def nested(depth: int) -> dict[str, object]:
    document: dict[str, object] = {}
    for _ in range(depth):
        document = {"a": document}
    return document


@pytest.mark.parametrize("policy", [nested(300), nested(800), {"a": float("nan")}, {"a": float("inf")}])
async def test_a_policy_that_could_not_be_shown_is_none(stage: Stage, policy: object):
    """The control plane's own answer would fail by it, or the command line's."""
    stage.agent.policy = policy
    answer = await stage.plane.call("GET", POLICY)
    assert (answer.status, answer.error_code) == (502, "BAD_NODE_RESPONSE")


async def test_a_policy_that_is_nested_as_deep_as_may_be_can_be_shown(stage: Stage, capsys: pytest.CaptureFixture[str]):
    stage.agent.policy = nested(190)
    policy = NodePolicy.model_validate(await stage.plane.ok("GET", POLICY))
    capsys.readouterr()  # the control plane's log, which goes there too
    print_tree(policy, "json")
    assert nested(190)["a"] == json.loads(capsys.readouterr().out)["a"]
    print_tree(policy, "text")


async def test_a_named_command_is_passed_on_as_it_was_asked_for(stage: Stage):
    parameters = {"service": "$(reboot)", "times": 3, "force": False}
    body = {"command_id": "c-1", "target": {"node": "vm-1"}, "named": "restart", "parameters": parameters}
    [command] = (await stage.plane.ok("POST", PATH, body))["commands"]
    assert (command["named"], command["parameters"]) == ("restart", parameters)
    assert "argv" not in command
    await stage.until("SUCCEEDED")
    assert json.loads(stage.agent.bodies[HOST, "c-1"]) == {"named": "restart", "parameters": parameters}
    assert (await stage.plane.call("POST", PATH, body)).status == 200
    assert (await stage.plane.call("POST", PATH, body | {"parameters": {}})).status == 409
    assert (await stage.plane.ok("GET", f"{PATH}/c-1"))["parameters"] == parameters


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"argv": ["true"], "named": "x"},
        {"argv": ["true"], "parameters": {"a": "b"}},
        {"named": "X"},
        {"named": "../x"},
        {"named": "x", "parameters": {"A": "b"}},
        {"named": "x", "parameters": {"a": None}},
        {"named": "x", "parameters": {"a": 1.5}},
        {"named": "x", "parameters": {"a": ["b"]}},
        {"named": "x", "parameters": {"a": "b\0"}},
        {"named": "x", "parameters": {"a": "b" * 4097}},
        {"named": "x", "parameters": {f"a{number}": 1 for number in range(33)}},
    ],
)
async def test_what_names_no_command_is_refused_before_it_is_recorded(stage: Stage, fields: dict[str, object]):
    assert (await stage.plane.call("POST", PATH, {"target": {"node": "vm-1"}} | fields)).status == 400
    assert (await stage.plane.ok("GET", PATH)) == {"commands": []}
