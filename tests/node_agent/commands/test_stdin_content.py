"""A standard input on its way to the disk: by offset, and no more ahead of the program than there is room for."""

import asyncio
import os

import pytest

from node_agent.commands import stdin_content
from node_agent.commands.errors import CommandRefused, RefusalReason
from node_agent.commands.stdin_content import StdinContent, Taken
from tests.support.still_disk import a_disk_that_stands_still


@pytest.fixture
def content(tmp_path):
    path = tmp_path / "stdin"
    path.touch()
    return StdinContent(path, ahead_bytes=10, room_seconds=0.05)


async def chunks(*pieces):
    for piece in pieces:
        yield piece


def take(content, offset, *pieces):
    return content.take(offset, chunks(*pieces), lambda: None)


async def test_what_is_there_is_passed_over(content, tmp_path):
    assert await take(content, 0, b"abc") == Taken(3, whole=True, closed=False)
    assert await take(content, 1, b"bc", b"de") == Taken(5, whole=True, closed=False)
    assert (tmp_path / "stdin").read_bytes() == b"abcde"
    with pytest.raises(CommandRefused) as refused:
        await take(content, 6, b"x")
    assert refused.value.reason is RefusalReason.GAP


async def test_an_input_has_a_largest_size(content, monkeypatch):
    monkeypatch.setattr(stdin_content, "MAX_STDIN_BYTES", 4)
    assert await take(content, 0, b"abcd") == Taken(4, whole=True, closed=False)
    with pytest.raises(CommandRefused) as refused:
        await take(content, 4, b"e")
    assert refused.value.reason is RefusalReason.TOO_LONG
    assert content.size_bytes() == 4


async def test_an_input_that_the_disk_does_not_take_is_refused(content, tmp_path):
    (tmp_path / "stdin").unlink()
    with pytest.raises(CommandRefused) as refused:
        await take(content, 0, b"abc")
    assert refused.value.reason is RefusalReason.NO_STORAGE


async def test_a_fifo_in_the_place_of_an_input_is_not_waited_for(content, tmp_path):
    (tmp_path / "stdin").unlink()
    os.mkfifo(tmp_path / "stdin")
    with pytest.raises(CommandRefused) as refused:
        await take(content, 0, b"abc")
    assert refused.value.reason is RefusalReason.NO_STORAGE


async def test_a_program_that_does_not_read_holds_its_input_up(content):
    assert await take(content, 0, b"0123456789", b"more") == Taken(10, whole=False, closed=False)
    content.passed(4, True)
    assert await take(content, 10, b"more") == Taken(14, whole=True, closed=False)


async def test_whoever_waits_for_room_goes_on_once_the_program_has_read(tmp_path):
    (tmp_path / "stdin").touch()
    content = StdinContent(tmp_path / "stdin", ahead_bytes=2, room_seconds=30.0)
    taking = asyncio.create_task(take(content, 0, b"ab", b"cd"))
    while content.size_bytes() < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    content.passed(1, True)
    assert await taking == Taken(4, whole=True, closed=False)


async def test_a_program_that_reads_no_more_takes_no_more(content):
    content.passed(0, False)
    assert await take(content, 0, b"x") == Taken(0, whole=False, closed=True)


async def test_a_caller_that_goes_while_the_disk_is_slow_leaves_no_thread_with_a_descriptor_that_is_closed(content):
    with a_disk_that_stands_still() as disk:
        taking = asyncio.create_task(take(content, 0, b"abc"))
        await disk.asked()
        taking.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not taking.done(), "another file might have that number by now"
        disk.move()
        with pytest.raises(asyncio.CancelledError):
            await taking
    assert await take(content, 3, b"de") == Taken(5, whole=True, closed=False)


async def test_one_caller_at_a_time(tmp_path):
    (tmp_path / "stdin").touch()
    content = StdinContent(tmp_path / "stdin", ahead_bytes=10, room_seconds=30.0)
    waiting = asyncio.create_task(take(content, 0, b"0123456789", b"x"))
    while content.size_bytes() < 10:  # noqa: ASYNC110
        await asyncio.sleep(0)
    with pytest.raises(CommandRefused) as refused:
        await take(content, 10, b"y")
    assert refused.value.reason is RefusalReason.BUSY
    content.passed(10, True)
    await waiting
