import asyncio
import os
import threading

import pytest

from node_agent.commands.spool import Spool


@pytest.fixture
def grow(tmp_path):
    def append(spool, content):
        with (tmp_path / "stdout").open("ab") as file:
            file.write(content)
        spool.grown(spool.size_bytes + len(content))

    return append


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "stdout")


async def read(spool, offset=0, *, follow=False):
    with spool.reader() as reader:
        return b"".join([chunk async for chunk in reader.chunks(offset, follow=follow)])


async def test_what_is_written_can_be_read_from_any_offset(spool, grow):
    assert await read(spool) == b"", "there need not be a file yet"
    grow(spool, b"hello")
    assert await read(spool) == b"hello"
    assert await read(spool, 3) == b"lo"
    assert await read(spool, 5) == b""


async def test_what_is_not_announced_yet_is_not_read(spool, grow, tmp_path):
    grow(spool, b"hello")
    with (tmp_path / "stdout").open("ab") as file:
        file.write(b" and a half")
    assert await read(spool) == b"hello"


async def test_a_follower_sees_each_append_and_the_end(spool, grow):
    follower = asyncio.create_task(read(spool, follow=True))
    await asyncio.sleep(0)
    grow(spool, b"one")
    await asyncio.sleep(0)
    grow(spool, b"two")
    spool.finish()
    assert await follower == b"onetwo"


async def test_a_size_that_comes_late_takes_nothing_back(spool, grow):
    grow(spool, b"hello")
    spool.grown(2)
    assert await read(spool) == b"hello"


async def test_a_follower_that_goes_away_is_forgotten(spool):
    follower = asyncio.create_task(read(spool, follow=True))
    await asyncio.sleep(0)
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    assert not spool._waiting


async def test_what_is_in_memory_no_longer_is_read_without_stopping_the_loop(spool, grow, monkeypatch):
    grow(spool, b"hello")
    from_disk, began, goes_on, loop = os.pread, asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def not_in_memory(*_):
        raise BlockingIOError

    def slowly(*place):
        loop.call_soon_threadsafe(began.set)
        assert goes_on.wait(20)
        return from_disk(*place)

    monkeypatch.setattr(os, "preadv", not_in_memory)
    monkeypatch.setattr(os, "pread", slowly)
    reading = asyncio.create_task(read(spool))
    await asyncio.wait_for(began.wait(), 20)
    assert not reading.done()
    goes_on.set()
    assert await reading == b"hello"


async def test_what_is_in_memory_takes_no_thread(spool, grow, monkeypatch):
    grow(spool, b"hello")
    monkeypatch.setattr(os, "preadv", lambda _, buffers, offset, flags: _fill(buffers[0], b"hello"[offset:]))
    monkeypatch.setattr(os, "pread", None)
    assert await read(spool) == b"hello"


def _fill(buffer, content):
    buffer[: len(content)] = content
    return len(content)


async def test_a_fifo_in_the_place_of_an_output_is_not_waited_for(spool, tmp_path):
    os.mkfifo(tmp_path / "stdout")
    spool.grown(1)
    with pytest.raises(OSError, match="seek"):
        await read(spool)
