"""How what runs by itself begins: a database that is away at that moment is asked again, and ends nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from control_plane.storage.errors import StorageError
from trunkline.runtime.logs import Logger

RETRY_SECONDS = 1.0

T = TypeVar("T")


async def begun(begin: Callable[[], Awaitable[T]], log: Logger, event: str) -> T:
    """Return what `begin` does once the database lets it; each failure is logged as `event`.

    A transaction whose commit was lost may be done: `begin` must be one that may be run again.
    """
    while True:
        try:
            return await begin()
        except StorageError as error:
            log.error(event, reason=str(error))
        await asyncio.sleep(RETRY_SECONDS)
