"""Outputs outlive their nodes: fetched after the end, read when the node is away or gone, let go when it is time."""

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from control_plane.outputs import files
from control_plane.outputs.files import OutputFiles
from control_plane.storage import kept_outputs
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import KeptOutput
from tests.support.command_stage import HOST, PATH, Stage, command_stage

WHOLE = bytes(range(256)) * 40
NODE = "/w/finance/api/2.0/nodes/vm-1"


@pytest.fixture
async def stage(tmp_path: Path):
    async with command_stage(tmp_path, keep_output_bytes=4096) as running:
        yield running


async def row_of(stage: Stage, command_id: str = "c-1") -> KeptOutput | None:
    workspace = await stage.plane.workspace()
    async with stage.plane.database.read() as session:
        return await kept_outputs.find(session, CommandKey(workspace["workspace_id"], command_id))


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(30):
        while not (found := await condition()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return found


async def settled(stage: Stage, state: str = kept_outputs.KEPT, command_id: str = "c-1") -> KeptOutput:
    async def look() -> KeptOutput | None:
        row = await row_of(stage, command_id)
        return row if row is not None and row.state == state else None

    found: KeptOutput = await until(look)
    return found


async def run(stage: Stage, stdout: bytes, stderr: bytes = b"", state: str = kept_outputs.KEPT) -> None:
    stage.agent.output = {"stdout": stdout, "stderr": stderr}
    stage.agent.hold.set()
    await stage.submit()
    await stage.until("SUCCEEDED")
    await settled(stage, state)


def file_of(stage: Stage) -> Path:
    [path] = stage.plane.settings.outputs_directory.glob("*/*")
    return path


async def test_a_deleted_nodes_command_and_its_output_can_be_read(stage: Stage):
    await run(stage, bytes(range(256)), b"\x00\xff\r\n")
    assert file_of(stage).stat().st_mode & 0o777 == 0o600
    await stage.plane.ok("DELETE", NODE)
    found = await stage.plane.ok("GET", f"{PATH}/c-1")
    assert (found["state"], found["exit_code"], found["node"]) == ("SUCCEEDED", 0, "vm-1")
    assert await stage.read() == bytes(range(256))
    assert await stage.read("?stream=stderr&follow=true") == b"\x00\xff\r\n"
    assert await stage.read("?tail=2") == b"\xfe\xff"
    assert await stage.read("?offset=256") == b""
    beyond = await stage.plane.call("GET", f"{PATH}/c-1/output?offset=257")
    assert (beyond.status, beyond.error_code) == (416, "RANGE_NOT_SATISFIABLE")
    assert [one["command_id"] for one in (await stage.plane.ok("GET", f"{PATH}?node=vm-1"))["commands"]] == ["c-1"]


async def test_what_is_kept_whole_does_not_trouble_the_node(stage: Stage):
    await run(stage, b"small")
    stage.agent.mode[HOST] = "offline"
    assert await stage.read() == b"small"


async def test_a_cut_is_marked_and_never_bridged(stage: Stage):
    await run(stage, WHOLE)
    assert await stage.read() == WHOLE, "as long as the node is there, it has all of it"
    await stage.plane.ok("DELETE", NODE)
    size = len(WHOLE)
    for query, offset, cut, content in [
        ("", 0, f"2048-{size - 2048}", WHOLE[:2048]),
        ("?offset=2000", 2000, f"2048-{size - 2048}", WHOLE[2000:2048]),
        ("?offset=3000", size - 2048, f"3000-{size - 2048}", WHOLE[-2048:]),
        (f"?offset={size - 10}", size - 10, None, WHOLE[-10:]),
        ("?tail=100", size - 100, None, WHOLE[-100:]),
        ("?length=10", 0, f"2048-{size - 2048}", WHOLE[:10]),
    ]:
        async with stage.open_output(query) as response:
            assert await response.read() == content
            assert response.headers["Trunkline-Offset"] == str(offset)
            assert response.headers["Trunkline-Size"] == str(size)
            assert response.headers.get("Trunkline-Cut") == cut


async def test_a_node_that_is_only_away_is_waited_for_unless_the_caller_takes_what_is_kept(stage: Stage):
    await run(stage, WHOLE)
    stage.agent.mode[HOST] = "offline"
    answer = await stage.plane.call("GET", f"{PATH}/c-1/output")
    assert (answer.status, answer.error_code) == (502, "NODE_UNREACHABLE")
    assert await stage.read("?kept=true") == WHOLE[:2048]


async def test_an_output_that_the_node_no_longer_has_is_read_here(stage: Stage):
    await run(stage, WHOLE)
    stage.agent.mode["GET *"] = "410"
    assert await stage.read("?tail=5") == WHOLE[-5:]


async def test_what_was_not_fetched_is_fetched_after_a_restart(tmp_path: Path):
    async with command_stage(tmp_path) as stage:
        stage.agent.output = {"stdout": b"content"}
        stage.agent.offline_after = "/c-1"  # it tells how the command ended, and is gone
        await stage.submit()
        await stage.until("SUCCEEDED")
        row = await row_of(stage)
        assert row is not None
        assert row.state == kept_outputs.WANTED
    stage.agent.offline_after = None
    stage.agent.mode.clear()
    async with command_stage(tmp_path, agent=stage.agent) as again:
        await settled(again)
        again.agent.mode[HOST] = "offline"
        assert await again.read() == b"content"


async def test_a_node_that_has_nothing_any_more_is_not_asked_for_ever(stage: Stage):
    stage.agent.mode["GET *"] = "410"
    await run(stage, b"abc", state=kept_outputs.GONE)
    await stage.plane.ok("DELETE", NODE)
    answer = await stage.plane.call("GET", f"{PATH}/c-1/output")
    assert (answer.status, answer.error_code) == (404, "RESOURCE_DOES_NOT_EXIST")


async def test_nothing_is_kept_where_that_is_switched_off(tmp_path: Path):
    async with command_stage(tmp_path, keep_output_bytes=0) as stage:
        await stage.submit()
        await stage.until("SUCCEEDED")
        assert await row_of(stage) is None
        assert not stage.plane.settings.outputs_directory.exists()


async def test_housekeeping_lets_go_of_the_oldest_and_of_what_is_forgotten(tmp_path: Path):
    async with command_stage(tmp_path, keep_output_total_bytes=250) as stage:
        stage.agent.output = {"stdout": b"x" * 100}
        for number in range(4):
            await stage.submit(command_id=f"c-{number}")
            await stage.until("SUCCEEDED", f"c-{number}")
            await settled(stage, command_id=f"c-{number}")
        await stage.plane.control_plane.housekeeping.clean()
        left = {path.name for path in stage.plane.settings.outputs_directory.glob("*/*")}
        assert left == {"c-2", "c-3"}
        account = stage.plane.account
        await stage.plane.ok("DELETE", f"{account}/workspaces/finance")
        await stage.plane.control_plane.removal.finish()
        assert not list(stage.plane.settings.outputs_directory.glob("*/*"))


async def test_as_much_is_let_go_of_as_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_outputs, "BATCH", 2)
    async with command_stage(tmp_path, keep_output_total_bytes=250) as stage:
        stage.agent.output = {"stdout": b"x" * 100}
        for number in range(7):
            await stage.submit(command_id=f"c-{number}")
            await stage.until("SUCCEEDED", f"c-{number}")
            await settled(stage, command_id=f"c-{number}")
        await stage.plane.control_plane.housekeeping.clean()
        left = {path.name for path in stage.plane.settings.outputs_directory.glob("*/*")}
        assert left == {"c-5", "c-6"}


def test_files_are_told_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "AT_ONCE", 2)
    outputs = OutputFiles(tmp_path)
    keys = {CommandKey(workspace_id, f"c-{number}") for workspace_id in ("ws-1", "ws-2") for number in range(3)}
    for key in keys:
        outputs.write(key, b"content")
    (tmp_path / "ws-3").mkdir()
    pieces = list(outputs.pieces())
    assert sorted(len(piece) for piece in pieces) == [1, 1, 2, 2]
    assert {key for piece in pieces for key in piece} == keys
    assert {path.name for path in tmp_path.iterdir()} == {"ws-1", "ws-2"}


async def test_files_that_a_crash_left_are_swept_at_start(tmp_path: Path):
    async with command_stage(tmp_path) as stage:
        stage.agent.output = {"stdout": b"content"}
        await stage.submit()
        await stage.until("SUCCEEDED")
        await settled(stage)
        kept = file_of(stage)
        for name in ("c-9", f".c-1.{hashlib.md5(b'', usedforsecurity=False).hexdigest()[:16]}"):
            kept.with_name(name).write_bytes(b"left")
    async with command_stage(tmp_path, agent=stage.agent) as again:
        await until(lambda: _only(kept))
        again.agent.mode[HOST] = "offline"
        assert await again.read() == b"content"


async def _only(kept: Path) -> bool:
    return list(kept.parent.iterdir()) == [kept]


async def test_when_it_was_written_is_read_of_the_node_and_kept_thinned(stage: Stage):
    marks = [(number * 10, 1000 + number) for number in range(1000)]
    stage.agent.times = marks
    await run(stage, WHOLE)
    path = f"{PATH}/c-1/output/times"
    page = await stage.plane.ok("GET", f"{path}?offset=100&limit=2")
    assert page == {"times": [{"offset": 100, "time": 1010}, {"offset": 110, "time": 1011}], "next_offset": 120}
    await stage.plane.ok("DELETE", NODE)
    kept = await stage.plane.ok("GET", path)
    assert kept["times"] == [{"offset": number * 50, "time": 1000 + number * 5} for number in range(200)]
    page = await stage.plane.ok("GET", f"{path}?offset=120&limit=1")
    assert page == {"times": [{"offset": 100, "time": 1010}], "next_offset": 150}
    for query in ("?limit=0", "?stream=all", "?colour=red"):
        assert (await stage.plane.call("GET", path + query)).status == 400


async def test_a_node_that_tells_no_times_costs_no_output(stage: Stage):
    stage.agent.mode["GET *"] = ""
    stage.agent.times = [(0, -1)]  # no answer that can be read
    await run(stage, b"out")
    assert (await row_of(stage)).times is None
    await stage.plane.ok("DELETE", NODE)
    assert await stage.read() == b"out"
    assert (await stage.plane.call("GET", f"{PATH}/c-1/output/times")).status == 404


def test_a_fifo_in_the_place_of_an_output_is_not_waited_for(tmp_path: Path):
    outputs, key = OutputFiles(tmp_path), CommandKey("ws-1", "c-1")
    (tmp_path / "ws-1").mkdir()
    os.mkfifo(tmp_path / "ws-1" / "c-1")
    with pytest.raises(OSError, match="seek"):
        outputs.read(key, 0, 1)
