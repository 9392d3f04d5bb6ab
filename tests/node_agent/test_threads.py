"""Threads that are there before they are needed."""

import asyncio
import contextlib
import threading

import pytest

from node_agent.threads import started_threads

COUNT = 3


async def at_once(count):
    """Run so many blocking works that each needs a thread while the others have theirs; returns the threads."""
    together = threading.Barrier(count, timeout=20)

    def work():
        together.wait()
        return threading.get_ident()

    return {*await asyncio.gather(*(asyncio.to_thread(work) for _ in range(count)))}


@contextlib.contextmanager
def no_more(*, after=0):
    """Let only so many more threads be started."""
    start, left = threading.Thread.start, iter(range(after))

    def start_if_there_is_room(thread):
        if next(left, None) is None:
            raise RuntimeError("can't start new thread")
        start(thread)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(threading.Thread, "start", start_if_there_is_room)
        yield


async def test_what_blocks_goes_on_where_no_thread_can_be_made():
    asyncio.get_running_loop().set_default_executor(started_threads(COUNT))
    with no_more():
        assert len(await at_once(COUNT)) == COUNT
        assert len(await at_once(COUNT)) == COUNT


async def test_where_there_are_fewer_from_the_beginning_those_do():
    with no_more(after=2):
        asyncio.get_running_loop().set_default_executor(started_threads(COUNT))
        assert await asyncio.to_thread(threading.get_ident)
