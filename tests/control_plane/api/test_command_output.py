"""The output of commands over the API: any part of it, and the whole of it whatever breaks towards the node."""

import asyncio
from pathlib import Path

import aiohttp
import pytest

from control_plane.fleet import node_output
from tests.support.command_stage import HOST, PATH, Stage, command_stage


@pytest.fixture
async def stage(tmp_path: Path):
    """A stage that keeps nothing: every byte comes from the node."""
    async with command_stage(tmp_path, keep_output_bytes=0) as running:
        yield running


async def test_output_is_streamed_from_any_offset(stage: Stage):
    whole = bytes(range(256)) * 8192
    stage.agent.output["stdout"] = whole
    stage.agent.output["stderr"] = b"oops"
    await stage.submit()
    await stage.until("SUCCEEDED")
    for query, expected in [
        ("", whole),
        ("?offset=1000000", whole[1_000_000:]),
        (f"?offset={len(whole)}", b""),
        ("?stream=stderr&offset=2", b"ps"),
    ]:
        async with stage.open_output(query) as response:
            assert response.status == 200
            assert response.content_type == "application/octet-stream"
            assert await response.read() == expected
    beyond = await stage.plane.call("GET", f"{PATH}/c-1/output?offset={len(whole) + 1}")
    assert (beyond.status, beyond.error_code) == (416, "RANGE_NOT_SATISFIABLE")
    for query in ("?stream=both", "?offset=-1", "?offset=x", "?colour=red"):
        assert (await stage.plane.call("GET", f"{PATH}/c-1/output{query}")).status == 400


async def test_output_that_breaks_is_read_on_at_the_node(stage: Stage):
    whole = bytes(range(256)) * 8192
    stage.agent.output["stdout"] = whole
    stage.agent.cut_output_after = 300_000
    await stage.submit()
    await stage.until("SUCCEEDED")
    assert await stage.read() == whole
    assert await stage.read("?offset=77") == whole[77:]
    assert await stage.read("?tail=1000000") == whole[-1_000_000:]


async def test_a_followed_output_ends_with_the_command_and_not_with_the_stream(stage: Stage):
    stage.agent.state = "RUNNING"
    stage.agent.output["stdout"] = b"abc"
    stage.agent.hold.set()  # every stream that follows ends at once, as those of an agent that stops
    await stage.submit()
    await stage.until("RUNNING")
    reading = asyncio.create_task(stage.read("?follow=true"))
    asked = stage.agent.count("GET", "follow=true")
    async with asyncio.timeout(30):
        while stage.agent.count("GET", "follow=true") < asked + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert not reading.done()
    stage.agent.output["stdout"] = b"abcdef"
    stage.agent.commands[HOST, "c-1"] |= {"state": "FAILED", "exit_code": 3, "stdout_bytes": 6}
    async with asyncio.timeout(30):
        assert await reading == b"abcdef"


async def test_output_of_a_node_that_does_not_come_back_does_not_look_whole(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(node_output, "RESUME_SECONDS", 0.2)
    stage.agent.output["stdout"] = b"x" * 1_000_000
    stage.agent.cut_output_after = 300_000
    stage.agent.offline_after_cut = True
    await stage.submit()
    await stage.until("SUCCEEDED")
    with pytest.raises(aiohttp.ClientPayloadError):
        await stage.read()


@pytest.mark.parametrize("query", ["", "?follow=true"])
@pytest.mark.parametrize("states_sizes", [True, False])
async def test_a_node_that_gives_less_than_it_has_counted_holds_no_reader_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, query: str, states_sizes: bool
):
    monkeypatch.setattr(node_output, "OWED_SECONDS", 0.1, raising=False)
    stage.agent.states_sizes = states_sizes
    stage.agent.owed_bytes = 5
    stage.agent.hold.set()
    await stage.submit()
    await stage.until("SUCCEEDED")
    async with asyncio.timeout(20):
        with pytest.raises(aiohttp.ClientPayloadError):
            await stage.read(query)


@pytest.mark.parametrize(
    ("query", "cut", "content"),
    [
        ("", "5-10", b"01234"),
        ("?follow=true", "5-10", b"01234"),
        ("?length=7", "5-7", b"01234"),
        ("?length=5", None, b"01234"),
        ("?tail=3", None, b"234"),
        ("?offset=7", "7-10", b""),
        ("?offset=10", None, b""),
    ],
)
async def test_what_a_node_has_lost_of_an_output_is_said(stage: Stage, query: str, cut: str | None, content: bytes):
    stage.agent.output["stdout"] = b"0123456789"
    await stage.submit()
    await stage.until("SUCCEEDED")
    stage.agent.output["stdout"] = b"01234"
    async with asyncio.timeout(20), stage.open_output(query) as response:
        assert response.status == 200
        assert response.headers.get("Trunkline-Cut") == cut
        assert await response.read() == content


async def test_a_node_that_is_away_for_a_while_costs_the_reader_nothing(stage: Stage):
    whole = b"y" * 1_000_000
    stage.agent.output["stdout"] = whole
    stage.agent.cut_output_after = 300_000
    stage.agent.offline_after_cut = True
    await stage.submit()
    await stage.until("SUCCEEDED")
    reading = asyncio.create_task(stage.read())
    async with asyncio.timeout(30):
        while stage.agent.mode.get("*") != "offline":  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    stage.agent.cut_output_after = None
    stage.agent.mode.clear()
    async with asyncio.timeout(30):
        assert await reading == whole


async def test_heads_tails_and_sizes(stage: Stage):
    stage.agent.output["stdout"] = b"0123456789"
    await stage.submit()
    await stage.until("SUCCEEDED")
    for query, offset, expected in [
        ("?length=4", "0", b"0123"),
        ("?offset=4&length=3", "4", b"456"),
        ("?tail=3", "7", b"789"),
        ("?tail=3&length=2", "7", b"78"),
        ("?tail=99", "0", b"0123456789"),
        ("?tail=0", "10", b""),
        ("?length=0", "0", b""),
        ("?tail=3&follow=true", "7", b"789"),
    ]:
        stage.agent.hold.set()
        async with stage.open_output(query) as response:
            assert await response.read() == expected
            fields = (response.headers["Trunkline-Offset"], response.headers["Trunkline-Size"])
            assert fields == (offset, "10")
    both = await stage.plane.call("GET", f"{PATH}/c-1/output?tail=1&offset=1")
    assert (both.status, both.error_code) == (400, "INVALID_PARAMETER_VALUE")


async def test_output_of_an_unreachable_node_is_a_typed_error(stage: Stage):
    await stage.submit()
    await stage.until("SUCCEEDED")
    stage.agent.mode[HOST] = "offline"
    answer = await stage.plane.call("GET", f"{PATH}/c-1/output")
    assert (answer.status, answer.error_code, answer.headers["Retry-After"]) == (502, "NODE_UNREACHABLE", "1")


async def test_output_of_what_never_arrived_is_empty(hurried: Stage):
    hurried.agent.mode[HOST] = "offline"
    await hurried.submit()
    await hurried.until("LOST")
    answer = await hurried.plane.call("GET", f"{PATH}/c-1/output?follow=true")
    assert (answer.status, answer.headers["Trunkline-Size"]) == (200, "0")


async def test_a_follower_that_goes_resets_the_stream_to_the_node(stage: Stage):
    stage.agent.state = "RUNNING"
    stage.agent.output["stdout"] = b"first"
    await stage.submit()
    await stage.until("RUNNING")
    response = await stage.open_output("?follow=true")
    assert await response.content.readexactly(5) == b"first"
    streams = stage.relay.links[0].streams
    response.close()
    async with asyncio.timeout(30):
        while stage.relay.links[0].streams >= streams:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_follower_waits_for_the_delivery(stage: Stage):
    stage.agent.mode["PUT *"] = "offline"
    stage.agent.output["stdout"] = b"done"
    stage.agent.hold.set()
    await stage.submit()
    reading = asyncio.create_task(stage.plane.call("GET", f"{PATH}/c-1/output?follow=true"))
    await stage.until("UNKNOWN")
    assert not reading.done()
    stage.agent.mode.clear()
    async with asyncio.timeout(30):
        assert (await reading).document == {"text": "done"}


@pytest.mark.parametrize("deleted", ["/w/finance/api/2.0/nodes/vm-1", "{account}/workspaces/finance"])
async def test_nobody_waits_for_the_rest_of_a_node_that_was_deleted(stage: Stage, deleted: str):
    stage.agent.state = "RUNNING"
    stage.agent.output["stdout"] = b"first"
    await stage.submit()
    await stage.until("RUNNING")
    async with stage.open_output("?follow=true") as response:
        assert await response.content.readexactly(5) == b"first"
        await stage.plane.ok("DELETE", deleted.format(account=stage.plane.account))
        stage.agent.mode["*"] = "offline"
        stage.relay.links[0].abort()  # as a relay does that hears of it
        async with asyncio.timeout(node_output.RESUME_SECONDS / 2):
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    gone = await stage.plane.call("GET", f"{PATH}/c-1/output?follow=true&offset=5")
    assert (gone.status, gone.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")
