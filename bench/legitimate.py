"""Somebody who calls in good order all the while, to whom nothing may happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.target import Target

PAUSE_SECONDS = 0.005
ANSWER_BYTES = 200
CALL_SECONDS = 30.0


@asynccontextmanager
async def calling(target: Target) -> AsyncIterator[list[float]]:
    """One kept-alive connection, one small call after the other, of which the first has been answered.

    The list of their seconds grows inside the block.

    Raises:
        ExceptionGroup: a call failed.
    """
    taken: list[float] = []
    stop, answered = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_call_on(target, taken, stop, answered))
        try:
            await answered.wait()
            yield taken
        finally:
            stop.set()


async def _call_on(target: Target, taken: list[float], stop: asyncio.Event, answered: asyncio.Event) -> None:
    reader, writer = await target.connect()
    request = target.request("GET", "/small")
    try:
        while not stop.is_set():
            began = time.monotonic()
            writer.write(request)
            async with asyncio.timeout(CALL_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(ANSWER_BYTES)
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(head.decode())
            taken.append(time.monotonic() - began)
            answered.set()
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        writer.transport.abort()


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0
