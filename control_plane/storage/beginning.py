"""How what runs by itself looks at the database, at its beginning and now and then: one that is away ends nobody."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

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


async def look_for_ever(look: Callable[[], Awaitable[None]], every_seconds: float, log: Logger, event: str) -> NoReturn:
    """Look so long from now, and so long after each look, since what was recorded was perhaps not heard of here.

    Each failure is logged as `event`, and left to the next look.
    """
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await look()
        except StorageError as error:
            log.error(event, reason=str(error))
