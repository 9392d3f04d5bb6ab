"""A real relay among peers that are slow or flood it: each is cut off in time, and good calls go on all the while."""

import asyncio
import gzip
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.credentials import Credentials
from bench.floods import FLOODS, many_headers, tiny_chunks, unread_windows
from bench.legitimate import calling
from bench.machine import LOAD_CORE, resident_kib
from bench.relay import Relay, listening, running_relay
from bench.relay_state import descriptors, metrics, without_more_than
from bench.slow_peers import SLOW_PEERS, crowd
from bench.target import Target

PEERS = 50
DEADLINES = {
    "handshake_seconds": 2,
    "head_seconds": 2,
    "write_stall_seconds": 2,
    "stream_stall_seconds": 3,
    "link_held_bytes": 8 * 1024 * 1024,
}
CLOSED_SECONDS = 60.0
"""Patience, not a bound: less than an idle connection has, and enough for a machine that does other things too."""
FLOOD_SECONDS = 60.0
GROWTH_KIB_A_PEER = 1024
"""Far above what the threat model states, and far below what anything without a bound would come to."""


@dataclass(frozen=True)
class Stage:
    """The relay, and a node behind it, seen from the attackers' address and from another one."""

    relay: Relay
    hostile: Target
    good: Target

    async def metric(self, name: str) -> float:
        return (await metrics(self.relay.admin_url)).get(f"trunkline_relay_{name}", 0.0)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    directory: Path = tmp_path_factory.mktemp("hostile")
    credentials = Credentials(directory / "credentials")
    (node,) = credentials.nodes(1)
    nodes_file = credentials.write_nodes([node], "nodes.json")
    with running_relay(directory / "relay", credentials, limits=DEADLINES) as relay:
        with listening(relay, nodes_file, LOAD_CORE):
            context = credentials.client_context()
            yield Stage(
                relay,
                hostile=Target(relay.port, context, node, "127.0.0.2"),
                good=Target(relay.port, context, node, "127.0.0.3"),
            )
        assert "Traceback" not in relay.log


def test_slow_peers_of_every_kind_at_once(stage: Stage) -> None:
    async def run() -> None:
        pid = stage.relay.pid
        before, memory = descriptors(pid), resident_kib(pid)
        begun = await stage.metric("handshakes_total")
        async with calling(stage.good) as taken, AsyncExitStack() as crowds:
            calls = len(taken)
            for peer in SLOW_PEERS.values():
                await crowds.enter_async_context(crowd(peer(stage.hostile), stage.hostile, PEERS))
            # Not how many are there at once: the first are cut off while a busy machine connects the last.
            assert await stage.metric("handshakes_total") > begun + len(SLOW_PEERS) * PEERS
            await without_more_than(pid, before + 1, CLOSED_SECONDS)  # the good caller's is the one more
            assert len(taken) > calls + 10, "good calls went on meanwhile"
        assert resident_kib(pid) - memory < GROWTH_KIB_A_PEER * PEERS * 7

    asyncio.run(run())


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_ends_its_link(stage: Stage, name: str) -> None:
    async def run() -> None:
        pid = stage.relay.pid
        before, ended = descriptors(pid), 'links_ended_total{reason="rate_exceeded",role="sender"}'
        count = await stage.metric(ended)
        async with calling(stage.good) as taken:
            async with asyncio.timeout(FLOOD_SECONDS):
                await FLOODS[name](stage.hostile)
            await without_more_than(pid, before + 1, CLOSED_SECONDS)
            calls = len(taken)
            while len(taken) < calls + 3:  # noqa: ASYNC110 - another process answers
                await asyncio.sleep(0.01)
        assert await stage.metric(ended) == count + 1

    asyncio.run(run())


def test_streams_whose_windows_nobody_reads_are_reset_and_the_link_goes_on(stage: Stage) -> None:
    async def run() -> None:
        # For the link's sake, or in their own time: which comes first says something of the machine only.
        names = 'streams_cut_total{bound="link"}', 'deadlines_total{deadline="write_stall"}'

        async def reset() -> list[float]:
            return [await stage.metric(name) for name in names]

        before = await reset()
        async with calling(stage.good) as taken:
            task = asyncio.create_task(unread_windows(stage.hostile, reading=True))
            async with asyncio.timeout(CLOSED_SECONDS):
                while sum(await reset()) < sum(before) + 150:  # noqa: ASYNC110 - another process counts
                    await asyncio.sleep(0.1)
            assert not task.done(), "the link goes on"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert len(taken) > 10

    asyncio.run(run())


def test_what_is_much_and_allowed_passes_and_what_is_too_much_is_refused(stage: Stage) -> None:
    async def run() -> None:
        before, memory = await stage.metric('body_bytes_total{direction="to_node"}'), resident_kib(stage.relay.pid)
        async with calling(stage.good):
            assert await tiny_chunks(stage.hostile, 50_000) == b"HTTP/1.1 204 No Content\r\n"
            assert await stage.metric('body_bytes_total{direction="to_node"}') - before == 50_000
            assert (await many_headers(stage.hostile, 5000)).startswith(b"HTTP/1.1 431 ")
            bomb = gzip.compress(bytes(64 * 1024 * 1024))
            assert await _upload(stage.hostile, bomb) == b"HTTP/1.1 204 No Content\r\n"
            assert await stage.metric('body_bytes_total{direction="to_node"}') - before == 50_000 + len(bomb)
        assert resident_kib(stage.relay.pid) - memory < 16 * 1024, "nothing was unpacked"

    asyncio.run(run())


async def _upload(target: Target, content: bytes) -> Any:
    reader, writer = await target.connect()
    try:
        writer.write(target.request("PUT", "/upload", f"Content-Length: {len(content)}", "Content-Encoding: gzip"))
        writer.write(content)
        return await reader.readline()
    finally:
        writer.transport.abort()
