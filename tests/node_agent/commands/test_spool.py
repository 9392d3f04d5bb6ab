import asyncio
import os

import pytest

from node_agent.commands.spool import Spool


@pytest.fixture
def spool(tmp_path):
    spool = Spool(tmp_path / "stdout", max_bytes=10)
    spool.open()
    yield spool
    spool.finish()


async def read(spool, offset=0, *, follow=False):
    with spool.reader() as reader:
        return b"".join([chunk async for chunk in reader.chunks(offset, follow=follow)])


async def test_what_is_written_can_be_read_from_any_offset(spool):
    spool.append(b"hello")
    assert await read(spool) == b"hello"
    assert await read(spool, 3) == b"lo"
    assert await read(spool, 5) == b""


async def test_a_follower_sees_each_append_and_the_end(spool):
    follower = asyncio.create_task(read(spool, follow=True))
    await asyncio.sleep(0)
    spool.append(b"one")
    await asyncio.sleep(0)
    spool.append(b"two")
    spool.finish()
    assert await follower == b"onetwo"


async def test_a_follower_that_goes_away_is_forgotten(spool):
    follower = asyncio.create_task(read(spool, follow=True))
    await asyncio.sleep(0)
    follower.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower
    assert not spool._waiting


async def test_bytes_beyond_the_bound_are_dropped_and_counted(spool):
    spool.append(b"0123456789ab")
    spool.append(b"cd")
    assert (spool.size_bytes, spool.dropped_bytes) == (10, 4)
    assert await read(spool) == b"0123456789"


async def test_after_a_dropped_byte_nothing_is_appended(tmp_path):
    spool = Spool(tmp_path / "stdout", max_bytes=10)
    spool.append(b"lost, since the file was never opened")
    spool.open()
    spool.append(b"x")
    spool.finish()
    assert (spool.size_bytes, spool.dropped_bytes) == (0, 38)


async def test_a_full_disk_loses_bytes_and_nothing_else(tmp_path):
    (tmp_path / "stdout").symlink_to("/dev/full")
    spool = Spool(tmp_path / "stdout", max_bytes=10)
    with pytest.raises(OSError, match="symbolic links"):
        spool.open()
    spool._descriptor = os.open("/dev/full", os.O_WRONLY)
    spool.append(b"abc")
    spool.finish()
    assert (spool.size_bytes, spool.dropped_bytes) == (0, 3)
