"""The events that a change is, as pure functions, and those of real commands over the API."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from control_plane.history import event_log
from control_plane.history.events import Standing, events_between
from control_plane.storage.records.commands import Command
from tests.support.command_stage import HOST, PATH, Stage


def command(**fields: Any) -> Command:
    plain = {"state": "QUEUED", "delivered": False, "final": False, "stdout_bytes": 0, "stderr_bytes": 0}
    return Command(**{**plain, **fields})


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        ({}, {"delivered": True}, ["delivered"]),
        ({}, {"state": "UNKNOWN", "reason": "offline"}, ["unknown"]),
        ({"state": "UNKNOWN"}, {"delivered": True, "state": "RUNNING", "start_time": 5}, ["delivered", "started"]),
        (
            {"delivered": True, "state": "UNKNOWN"},
            {"delivered": True, "state": "FAILED", "final": True, "start_time": 5},
            ["known_again", "started", "ended"],
        ),
        ({"delivered": True}, {"delivered": True, "state": "CANCELLING"}, ["cancelling"]),
        ({"delivered": True, "state": "UNKNOWN"}, {"delivered": True, "state": "UNKNOWN"}, []),
    ],
)
def test_events_are_read_off_from_a_change(before: dict[str, Any], after: dict[str, Any], kinds: list[str]):
    events = events_between(Standing.of(command(**before)), command(**after))
    assert [event.kind for event in events] == kinds


async def events_of(stage: Stage, query: str = "") -> list[dict[str, Any]]:
    return list((await stage.plane.ok("GET", f"{PATH}/c-1/events{query}"))["events"])


async def kinds_of(stage: Stage) -> list[str]:
    return [event["event"] for event in await events_of(stage)]


async def test_the_life_of_a_command(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    stage.agent.mode[HOST] = "offline"
    await stage.until("UNKNOWN")
    stage.agent.mode.clear()
    await stage.until("RUNNING")
    await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
    await stage.until("CANCELLED")
    async with asyncio.timeout(30):
        while (await kinds_of(stage))[-1] != "output_kept":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    events = await events_of(stage)
    assert [event["event"] for event in events] == [
        "recorded", "delivered", "unknown", "known_again", "cancel_asked", "ended", "output_kept",
    ]  # fmt: skip
    assert events[4]["details"]["by"].startswith("operator/")
    assert events[5]["details"]["state"] == "CANCELLED"
    first = await stage.plane.ok("GET", f"{PATH}/c-1/events?page_size=3")
    rest = await stage.plane.ok("GET", f"{PATH}/c-1/events?page_size=9&page_token={first['next_page_token']}")
    assert first["events"] + rest["events"] == events
    assert await events_of(stage, f"?after={events[-2]['event_id']}") == events[-1:]


async def test_events_are_followed_until_the_end(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    headers = {"Authorization": f"Bearer {stage.plane.operator_token}"}
    url = f"{stage.plane.url}{PATH}/c-1/events?follow=true"
    async with asyncio.timeout(30), stage.plane.session().get(url, headers=headers) as response:
        assert response.content_type == "application/x-ndjson"
        kinds = []
        async for line in response.content:
            kinds.append(json.loads(line)["event"])
            if kinds[-1] == "delivered":
                stage.agent.commands[HOST, "c-1"] |= {"state": "SUCCEEDED", "start_time": 5, "end_time": 9}
    assert kinds == ["recorded", "delivered", "started", "ended"]


@pytest.mark.parametrize("query", ["?follow=true&page_token=x", "?after=-1", "?colour=red"])
async def test_bad_queries(stage: Stage, query: str):
    await stage.submit()
    assert (await stage.plane.call("GET", f"{PATH}/c-1/events{query}")).status == 400
    assert (await stage.plane.call("GET", f"{PATH}/c-9/events")).status == 404


async def test_events_of_one_command_are_bounded_and_its_end_is_among_them(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(event_log, "MOST_EVENTS", 4)
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    for _ in range(3):
        stage.agent.mode[HOST] = "offline"
        await stage.until("UNKNOWN")
        stage.agent.mode.clear()
        await stage.until("RUNNING")
    stage.agent.commands[HOST, "c-1"] |= {"state": "FAILED", "stdout_bytes": 0}
    await stage.until("FAILED")
    assert await kinds_of(stage) == ["recorded", "delivered", "unknown", "not_recorded", "ended"]


async def test_the_audit_has_submit_start_finish_and_cancel_by_the_hash(stage: Stage):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    await stage.plane.ok("POST", f"{PATH}/c-1/cancel", {})
    stage.agent.state = "SUCCEEDED"
    await stage.submit(command_id="c-2")
    stage.agent.commands[HOST, "c-2"] = {"command_id": "c-2", "state": "SUCCEEDED", "start_time": 4, "end_time": 6}
    await stage.until("SUCCEEDED", "c-2")
    [submit] = [event for event in await stage.plane.audit(action="command.submit") if event["resource"] == "c-2"]
    [start] = await stage.plane.audit(action="command.start")
    [cancel] = await stage.plane.audit(action="command.cancel")
    finishes = await stage.plane.audit(action="command.finish")
    hashes = {event["details"]["body_sha256"] for event in (submit, start, cancel, *finishes)}
    assert len(hashes) == 1, "both commands are the same but for their ids"
    assert [event["details"]["state"] for event in finishes] == ["SUCCEEDED", "CANCELLED"]
    assert start["actor"] == f"node/{start['details']['node_id']}"
    assert start["details"]["submitted_by"].startswith("operator/")
    assert cancel["actor"] == start["details"]["submitted_by"]


async def test_a_refusal_of_the_node_is_in_the_audit_with_its_rule(stage: Stage):
    stage.agent.mode[HOST] = "403"
    stage.agent.refusal = {"details": [{"policy_rule": "commands.allowed_users"}]}
    await stage.submit()
    await stage.until("LOST")
    [finish] = await stage.plane.audit(action="command.finish")
    assert finish["outcome"] == "refused by the node"
    assert finish["details"]["policy_rule"] == "commands.allowed_users"


async def test_what_is_measured(stage: Stage, tmp_path: Path):
    stage.agent.state = "RUNNING"
    await stage.submit()
    await stage.until("RUNNING")
    stage.agent.commands[HOST, "c-1"] |= {
        "state": "SUCCEEDED", "submit_time": 1_000, "start_time": 1_500, "end_time": 4_500,
    }  # fmt: skip
    await stage.until("SUCCEEDED")
    sample = stage.plane.foundation.registry.get_sample_value
    prefix = "trunkline_control_plane_command"
    assert sample(f"{prefix}_duration_seconds_sum", {"state": "SUCCEEDED"}) == 3.0
    assert sample(f"{prefix}_queue_seconds_sum") == 0.5
    assert sample(f"{prefix}_delivery_seconds_count") == 1.0
    assert sample(f"{prefix}s_total", {"state": "SUCCEEDED"}) == 1.0
