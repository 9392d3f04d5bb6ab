"""Threads, for what blocks: no loop waits for a disk, and a daemon's threads are there before they are needed.

A disk may take seconds for one flush, and a loop that waits for it neither answers pings nor cuts what was revoked. So
what is kept is written by `in_thread`, and used once that has returned.

A pool makes its threads when they are first needed. On a machine, or in a container, that others have filled with
processes there are none to be had then, and nothing of the daemon that needs one would go on.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

# As many as asyncio would make at most.
MOST_THREADS = min(32, (os.cpu_count() or 1) + 4)


def started_threads(count: int = MOST_THREADS, name: str = "trunkline-work") -> ThreadPoolExecutor:
    """Return a pool of so many threads, all of them started, or as many as there are to be had yet."""
    threads = ThreadPoolExecutor(count, thread_name_prefix=name)
    together = threading.Barrier(count)  # so that no thread does the work of another
    started: list[Future[int]] = []
    try:
        started.extend(threads.submit(together.wait) for _ in range(count))
    except RuntimeError:
        together.abort()
    wait(started)
    return threads


async def in_thread(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """Run `work` in a thread of the loop's; whoever is cancelled meanwhile waits for its end first.

    So a thread never writes behind the back of whoever has begun it: not into a descriptor that is closed already, not
    beside the next who writes there, and not into a state directory that was given up.
    """
    running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **options))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
