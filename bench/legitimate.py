"""Somebody who calls in good order all the while, to whom nothing may happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.target import Target

PAUSE_SECONDS = 0.005
CALL_SECONDS = 30.0


@asynccontextmanager
async def calling(target: Target, *, shed: bool = False) -> AsyncIterator[list[float]]:
    """One kept-alive connection, one small call after the other, of which the first has been answered.

    The list of their seconds grows inside the block. With `shed` a 503 is no failure, and is not in the list.

    Raises:
        ExceptionGroup: a call failed.
    """
    taken: list[float] = []
    stop, answered = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_call_on(target, taken, stop, answered, shed))
        try:
            await answered.wait()
            yield taken
        finally:
            stop.set()


async def _call_on(
    target: Target, taken: list[float], stop: asyncio.Event, answered: asyncio.Event, shed: bool
) -> None:
    reader, writer = await target.connect()
    request = target.request("GET", "/small")
    try:
        while not stop.is_set():
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(CALL_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            if head.startswith(b"HTTP/1.1 200 "):
                taken.append(time.monotonic() - began)
            elif not shed or not head.startswith(b"HTTP/1.1 503 "):
                raise RuntimeError(head.decode())
            answered.set()
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        writer.transport.abort()


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
