"""Reports of nodes: what they have written down is bounded for each node, whatever they say."""

from pathlib import Path
from typing import Any

import pytest

from control_plane.storage.records.reports import NodeReporter
from tests.support.control_planes import (
    EnrolledNode,
    RunningControlPlane,
    running_control_plane,
    settings_for,
)

PATH = "/api/2.0/nodes/self/reports"


@pytest.fixture
async def bounded(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"most_node_records_per_second": 1})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        yield plane


async def tell(plane: RunningControlPlane, node: EnrolledNode, sequence: int, shells: int) -> Any:
    shell = {"shell_id": "s", "event": "opened", "user": "nobody", "open_time": 1}
    items = [{"type": "shell", "time": 1, "subject": "x", "token_id": "t", "shell": shell}] * shells
    body = {"reporter": "one", "sequence": sequence, "items": items}
    return await plane.call("POST", PATH, body, identity=node.identity)


async def test_shells_that_a_node_makes_up_do_not_fill_the_audit(bounded: RunningControlPlane):
    liar, other = await bounded.node("vm-1"), await bounded.node("vm-2")
    answers = [await tell(bounded, liar, number, 100) for number in range(8)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 3
    assert 1 <= int(answers[5].headers["Retry-After"]) <= 60
    assert (await tell(bounded, other, 1, 100)).status == 200, "another node has room of its own"


async def test_calls_that_are_too_many_are_refused_too(bounded: RunningControlPlane):
    node = await bounded.node("vm-1")
    for number in range(5):
        await tell(bounded, node, number, 100)
    statuses = {(await tell(bounded, node, number, 0)).status for number in range(5, 125)}
    assert statuses == {200, 429}


async def test_words_of_a_later_release_are_kept_and_cost_nothing_else(plane: RunningControlPlane):
    node = await plane.node("vm-1")
    about = {"time": 1, "subject": "x", "token_id": "t"}
    shell = {"shell_id": "s", "user": "nobody", "open_time": 1}
    file = {"path": "/a", "outcome": "complete"}
    items = [
        {"type": "trust", "time": 1, "sequence": 1, "cuts": [{"cause": "quarantine", "kind": "node", "id": "nd-x"}]},
        {"type": "shell", **about, "shell": {**shell, "event": "resized"}},
        {"type": "shell", **about, "shell": {**shell, "event": "opened"}},
        {"type": "file", **about, "file": {**file, "event": "removed", "outcome": "undone"}},
        {"type": "file", **about, "file": {**file, "event": "read"}},
        {"type": "file", **about, "file": {"event": "read", "pieces": []}},
        {"type": "weather", "time": 1},
    ]
    body = {"reporter": "one", "sequence": 1, "items": items}
    await plane.ok("POST", PATH, body, identity=node.identity)
    audit = {event["action"]: event for event in await plane.audit()}
    assert audit["shell.other"]["details"]["event"] == "resized"
    removed = audit["file.other"]["details"]
    assert (removed["event"], removed["outcome"]) == ("removed", "undone")
    for action in ("shell.open", "file.read"):
        assert "event" not in audit[action]["details"]
    async with plane.database.read() as session:
        found = await session.get(NodeReporter, node.node_id)
    assert found is not None
    assert found.dropped == 1
