"""Readiness waits for the nodes of before, but not for ever; their number is kept."""

import asyncio
import os
from pathlib import Path

import pytest

from relay.links.nodes_return import NodesReturn
from tests.support.still_disk import a_disk_that_stands_still
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.logs import get_logger


def nodes_return(directory: Path) -> tuple[NodesReturn, Condition]:
    condition = Condition("nodes", lambda: None)
    return NodesReturn(directory, condition, get_logger("test"), per_second=10.0), condition


async def test_a_relay_without_a_past_is_ready_at_once(tmp_path: Path):
    nodes, condition = nodes_return(tmp_path)
    running = asyncio.create_task(nodes.run(3600))
    await asyncio.sleep(0)
    assert condition.reason is None
    running.cancel()


async def test_ready_when_nearly_all_are_back(tmp_path: Path):
    (tmp_path / "nodes").write_text("100\n")
    nodes, condition = nodes_return(tmp_path)
    running = asyncio.create_task(nodes.run(3600))
    for count in range(1, 98):
        nodes.counted(count)
        await asyncio.sleep(0)
        assert condition.reason == "waiting for the 98 nodes that had links here"
    nodes.counted(98)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert condition.reason is None
    running.cancel()


@pytest.mark.parametrize("count", [1, 3, 49])
async def test_of_a_few_nodes_all_are_waited_for(tmp_path: Path, count: int):
    (tmp_path / "nodes").write_text(f"{count}\n")
    nodes, condition = nodes_return(tmp_path)
    running = asyncio.create_task(nodes.run(3600))
    nodes.counted(count - 1)
    await asyncio.sleep(0)
    assert condition.reason == f"waiting for the {count} nodes that had links here"
    nodes.counted(count)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert condition.reason is None
    running.cancel()


async def test_nodes_that_are_gone_for_good_keep_nobody_waiting(tmp_path: Path):
    (tmp_path / "nodes").write_text("3\n")
    met = asyncio.Event()
    nodes = NodesReturn(tmp_path, Condition("nodes", met.set), get_logger("test"), per_second=10.0)
    running = asyncio.create_task(nodes.run(0.01))
    await asyncio.sleep(0)
    met.clear()
    async with asyncio.timeout(30):
        await met.wait()
    running.cancel()


async def test_what_leaves_once_the_relay_ends_still_counts(tmp_path: Path):
    nodes, _ = nodes_return(tmp_path)
    nodes.counted(2)
    await nodes.close()
    nodes.counted(0)
    await nodes.close()
    assert (tmp_path / "nodes").read_text() == "2\n"


@pytest.mark.parametrize("content", [b"", b"-1", b"many", b"\xff\xfe", b"9" * 4000])
async def test_a_damaged_number_is_none(tmp_path: Path, content: bytes):
    (tmp_path / "nodes").write_bytes(content)
    nodes, condition = nodes_return(tmp_path)
    running = asyncio.create_task(nodes.run(3600))
    await asyncio.sleep(0)
    assert condition.reason is None
    running.cancel()
    nodes.counted(1)
    await nodes.close()
    assert (tmp_path / "nodes").read_text() == "1\n"


async def test_a_fifo_in_its_place_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "nodes")
    nodes, _ = nodes_return(tmp_path)
    nodes.counted(1)
    await nodes.close()
    assert (tmp_path / "nodes").read_text() == "1\n"


async def test_a_full_disk_is_told_and_survived(tmp_path: Path):
    nodes, _ = nodes_return(tmp_path / "missing")
    nodes.counted(1)
    await nodes.close()


async def test_a_disk_that_stands_still_at_the_end_gets_the_number_of_its_beginning(tmp_path: Path):
    nodes, _ = nodes_return(tmp_path)
    nodes.counted(2)
    with a_disk_that_stands_still() as disk:
        closing = asyncio.ensure_future(nodes.close())
        nodes.counted(0)
        await disk.asked()
        disk.move()
        await closing
    assert (tmp_path / "nodes").read_text() == "2\n"


async def test_the_return_is_spread_by_how_many_there_are_or_were(tmp_path: Path):
    (tmp_path / "nodes").write_text("100\n")
    nodes, _ = nodes_return(tmp_path)
    assert nodes.return_within_seconds == 12, "ten a second, and a quarter more"
    nodes.counted(200)
    assert nodes.return_within_seconds == 25
    nodes.counted(100_000)
    assert nodes.return_within_seconds == 60


async def test_a_few_nodes_are_not_spread(tmp_path: Path):
    nodes, _ = nodes_return(tmp_path)
    nodes.counted(3)
    assert nodes.return_within_seconds == 0
