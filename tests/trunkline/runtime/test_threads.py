"""Threads that are there before they are needed."""

import asyncio
import threading

from tests.support.threads import no_more_threads
from trunkline.runtime.threads import started_threads

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
