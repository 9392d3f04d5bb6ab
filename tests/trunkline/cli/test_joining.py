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


async def write_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(bytes(1_000_000))
        await writer.drain()
