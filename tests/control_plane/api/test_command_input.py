"""The standard input of commands over the API: passed on in bound blocks, and how far it has come."""

import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_stage import HOST, PATH, Stage, command_stage


@pytest.fixture
async def stage(tmp_path: Path):
    async with command_stage(tmp_path) as running:
        running.agent.state = "RUNNING"
        yield running


async def bring(stage: Stage, content: bytes, query: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {stage.plane.operator_token}"}
    url = f"{stage.plane.url}{PATH}/c-1/stdin{query}"
    async with stage.plane.session().put(url, data=io.BytesIO(content), headers=headers) as response:
        return response.status, await response.json()


async def test_input_is_passed_on_in_blocks_each_bound_to_its_place(stage: Stage):
    whole = bytes(range(256)) * 10_000
    await stage.submit(stdin_stream=True)
    status, standing = await bring(stage, whole)
    assert (status, standing["received_bytes"], standing["complete"]) == (200, len(whole), False)
    status, standing = await bring(stage, b"end", f"?offset={len(whole)}&end=true")
    assert (status, standing["received_bytes"], standing["complete"]) == (200, len(whole) + 3, True)
    assert bytes(stage.agent.stdin["c-1"]) == whole + b"end"
    [event] = await stage.plane.audit(action="command.stdin")
    assert (event["resource"], event["details"]["stdin_bytes"]) == ("c-1", len(whole) + 3)
    blocks = [target for method, _, target in stage.agent.calls if "/stdin" in target]
    assert len(blocks) == 4, "three blocks, and the end"


async def test_a_node_that_has_no_room_says_how_far_it_got(stage: Stage):
    await stage.submit(stdin_stream=True)
    stage.agent.stdin_room = 1_500_000
    status, standing = await bring(stage, bytes(3_000_000), "?end=true")
    assert (status, standing["received_bytes"], standing["complete"]) == (200, 1_500_000, False)


async def test_a_command_that_reads_no_more(stage: Stage):
    await stage.submit(stdin_stream=True)
    stage.agent.stdin_closed = True
    assert (await bring(stage, b"x"))[1]["closed"]
    stage.agent.commands[HOST, "c-1"]["state"] = "SUCCEEDED"
    await stage.until("SUCCEEDED")
    stage.agent.mode["*"] = "offline"
    assert (await bring(stage, b"x"))[1]["closed"], "its node is not asked any more"


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("offline", 502, "NODE_UNREACHABLE"),
        ("reset before", 502, "NODE_UNREACHABLE"),
        ("409", 409, "RESOURCE_CONFLICT"),
        ("503", 502, "NODE_UNREACHABLE"),
        ("403", 403, "PERMISSION_DENIED"),
        ("416", 416, "RANGE_NOT_SATISFIABLE"),
        ("507", 507, "INSUFFICIENT_STORAGE"),
        ("500", 502, "BAD_NODE_RESPONSE"),
    ],
)
async def test_what_a_node_refuses(stage: Stage, mode: str, status: int, code: str):
    await stage.submit(stdin_stream=True)
    await stage.until("RUNNING")
    stage.agent.mode["PUT *"] = mode
    answered, document = await bring(stage, b"x")
    assert (answered, document["error_code"]) == (status, code)


async def test_input_that_follows_is_for_one_node_and_not_there_already(stage: Stage):
    body = {"argv": ["cat"], "stdin_stream": True}
    for refused in (
        body | {"target": {"all": True}},
        body | {"target": {"node": "vm-1"}, "stdin": "eA=="},
        body | {"target": {"node": "vm-1"}, "stdin_stream": False},
    ):
        assert (await stage.plane.call("POST", PATH, refused)).status == 400
    assert (await bring(stage, b"x"))[0] == 404
    await stage.submit(stdin_stream=True)
    for query in ("?offset=-1", "?end=maybe", "?colour=red"):
        assert (await bring(stage, b"x", query))[0] == 400
