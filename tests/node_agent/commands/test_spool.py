import asyncio

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
