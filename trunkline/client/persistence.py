"""Calls about files made again while that may help: links break, relays and agents are started again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TypeVar

from trunkline.client.copy_listener import CopyListener
from trunkline.client.errors import ApiError, TrunklineError
from trunkline.client.resumption import Resumption

T = TypeVar("T")


class Furthest:
    """How far a file has come: only what is further than ever before is progress, however much is sent again."""

    def __init__(self, resumption: Resumption) -> None:
        self._resumption = resumption
        self._offset = 0

    def at(self, offset: int) -> None:
        """So much of the file has passed."""
        if offset > self._offset:
            self._offset = offset
            self._resumption.progress()


async def persistently(call: Callable[[], Awaitable[T]], listener: CopyListener) -> T:
    """Make an idempotent call until it is answered, for as long as `Resumption` allows.

    Raises:
        TrunklineError: the answer, or the last failure.
    """
    resumption = Resumption()
    while True:
        try:
            return await call()
        except TrunklineError as error:
            await wait_for_next(resumption, error, listener)


async def wait_for_next(resumption: Resumption, error: TrunklineError, listener: CopyListener) -> None:
    """Wait for the next attempt; raises `error` where none would help."""
    if is_passing(error):
        error.retry = True
    if error.retry:
        listener.cut(error)
    await resumption.wait_or_raise(error)


def is_passing(error: TrunklineError) -> bool:
    """Whether a node says that what it has of a file is another now, or is still held by the attempt before."""
    if not isinstance(error, ApiError):
        return False
    begins_anew = error.status == HTTPStatus.CONFLICT and error.error_code == "CHECKSUM_MISMATCH"
    return begins_anew or error.error_code == "ABORTED" or error.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
