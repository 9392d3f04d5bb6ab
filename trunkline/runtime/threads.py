"""A daemon's threads, for what blocks: they are there before they are needed.

A pool makes its threads when they are first needed. On a machine, or in a container, that others have filled with
processes there are none to be had then, and nothing of the daemon that needs one would go on.
"""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait

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
