"""Threads that are there before they are needed."""

import asyncio
import threading

import pytest

from tests.support.threads import no_more_threads
from trunkline.runtime.threads import in_thread, started_threads

COUNT = 3


async def at_once(count):
    """Run so many blocking works that each needs a thread while the others have theirs; returns the threads."""
    together = threading.Barrier(count, timeout=20)

    def work():
        together.wait()
        return threading.get_ident()

    return {*await asyncio.gather(*(asyncio.to_thread(work) for _ in range(count)))}


async def test_what_blocks_goes_on_where_no_thread_can_be_made():
    asyncio.get_running_loop().set_default_executor(started_threads(COUNT))
    with no_more_threads():
        assert len(await at_once(COUNT)) == COUNT
        assert len(await at_once(COUNT)) == COUNT


async def test_where_there_are_fewer_from_the_beginning_those_do():
    with no_more_threads(after=2):
        asyncio.get_running_loop().set_default_executor(started_threads(COUNT))
        assert await asyncio.to_thread(threading.get_ident)


async def test_the_loop_turns_while_a_thread_works_and_hears_what_came_of_it():
    goes_on = threading.Event()
    working = asyncio.create_task(in_thread(goes_on.wait, timeout=20))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not working.done()
    goes_on.set()
    assert await working
    with pytest.raises(ZeroDivisionError):
        await in_thread(divmod, 1, 0)


@pytest.mark.parametrize("fails", [False, True])
async def test_who_is_cancelled_waits_until_the_thread_has_let_go(fails):
    began, goes_on, ended = asyncio.Event(), threading.Event(), []
    loop = asyncio.get_running_loop()

    def work():
        loop.call_soon_threadsafe(began.set)
        assert goes_on.wait(20)
        ended.append(True)
        if fails:
            raise OSError

    working = asyncio.create_task(in_thread(work))
    await began.wait()
    working.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not working.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended
