"""Joining two connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from trunkline.cli.joining import close, join

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def ends() -> AsyncIterator[tuple[Pair, Pair, asyncio.Task[None]]]:
    """Two outer ends whose inner ends are joined."""
    (near, near_inner), (far, far_inner) = socket.socketpair(), socket.socketpair()
    pairs = [await asyncio.open_connection(sock=end) for end in (near, near_inner, far, far_inner)]
    joining = asyncio.create_task(join(*pairs[1], *pairs[3]))
    yield pairs[0], pairs[2], joining
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    for _, writer in pairs:
        await close(writer)


async def test_both_ways_with_half_close(ends: tuple[Pair, Pair, asyncio.Task[None]]) -> None:
    (near_reader, near_writer), (far_reader, far_writer), joining = ends
    content = bytes(range(256)) * 8000
    near_writer.write(content)
    near_writer.write_eof()
    assert await far_reader.read(-1) == content
    far_writer.write(b"answer after the question's end")
    far_writer.write_eof()
    assert await near_reader.read(-1) == b"answer after the question's end"
    await joining


async def test_a_broken_side_breaks_the_other(ends: tuple[Pair, Pair, asyncio.Task[None]]) -> None:
    (_, near_writer), (_, far_writer), joining = ends
    far_writer.transport.abort()
    with pytest.raises(ConnectionError):
        await write_for_ever(near_writer)
    await joining


@pytest.mark.parametrize("cut", ["the node", "the user"])
async def test_a_program_sees_a_part_as_a_part(cut: str) -> None:
    """Over TCP, where closing alone would look like the end of everything."""
    (far, far_inner) = socket.socketpair()
    (_, far_writer), far_pair = [await asyncio.open_connection(sock=end) for end in (far, far_inner)]
    joined: asyncio.Queue[asyncio.Task[None]] = asyncio.Queue()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        joined.put_nowait(asyncio.ensure_future(join(reader, writer, *far_pair)))

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        joining = await joined.get()
        far_writer.write(b"a part")
        assert await reader.readexactly(6) == b"a part"
        if cut == "the user":
            joining.cancel()
        else:
            far_pair[0].set_exception(ConnectionResetError("the stream was reset"))
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        await asyncio.gather(joining, return_exceptions=True)
        for each in (writer, far_writer):
            await close(each)


async def write_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(1_000_000))
        await writer.drain()
