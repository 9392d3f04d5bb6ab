"""Shared commits: small changes that wait for the database together are made durable by one commit.

A disk takes as long to make one change durable as to make twenty. So those who come while others write wait in a line
of their own, and whoever of it gets the place of a writer takes the rest along: each in a savepoint, so that one which
fails or is refused takes back its own change and no other, and sees what those before it have changed. Nobody is
answered before the commit: neither who has changed something, nor who was refused because of what another changed. If
it fails, it fails for all.

The first is done without a savepoint, since a lone one needs none: if it fails, there is nothing yet that would have to
stay. The changes are made by a task of the line's own. A caller that is cancelled leaves the line, or what is being
made for it to the end: a statement cannot be given up in the middle without the connection, and all that shares it.
"""

import asyncio
import contextlib
import contextvars
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from control_plane.storage.errors import StorageError, translated

MOST_TOGETHER = 64
LONGEST_SECONDS = 0.1
"""After so long nobody more is taken along: others who write wait, and those whose changes are made already."""

_OF_ONE = (IntegrityError, DataError)
"""What the database says of one statement, with the transaction as it was before it."""

T = TypeVar("T")
Work = Callable[[AsyncSession], Awaitable[T]]


@dataclass(slots=True)
class _Change:
    """One change, and whoever waits for it; `result` or `error` is what came of it, told once it is durable."""

    work: Work[Any]
    done: "asyncio.Future[Any]"
    result: Any = None
    error: Exception | None = None

    def tell(self, failure: Exception | None = None) -> None:
        if self.done.done():
            return
        if (error := failure or self.error) is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(self.result)


class SharedCommits:
    """Makes changes together."""

    def __init__(self, write: Callable[[], AbstractAsyncContextManager[AsyncSession]]) -> None:
        """Prepare it; `write` opens a transaction, which is durable once its block has ended."""
        self._write = write
        self._waiting: deque[_Change] = deque()
        self._working: asyncio.Task[None] | None = None

    async def make(self, work: Work[T]) -> T:
        """Make a change, a small one, whose end others wait for; return what `work` did, once it is durable.

        Raises:
            StorageError: as a transaction of its own would; nothing was changed.
            Exception: what `work` raised; nothing that it did was changed.
        """
        change = _Change(work, asyncio.get_running_loop().create_future())
        self._waiting.append(change)
        if self._working is None:
            # Of the context of whoever comes first, nothing holds for the others.
            self._working = asyncio.create_task(
                self._work_off(), name="trunkline-shared-commits", context=contextvars.Context()
            )
        result: T = await change.done
        return result

    async def _work_off(self) -> None:
        try:
            while self._waiting:
                await self._make_together()
        finally:
            self._working = None
            for change in self._waiting:  # none, unless the task is cancelled
                change.done.cancel()
            self._waiting.clear()

    def _next(self) -> _Change | None:
        """Return the next change that somebody waits for."""
        while self._waiting:
            if not (change := self._waiting.popleft()).done.done():
                return change
        return None

    async def _make_together(self) -> None:
        made: list[_Change] = []
        try:
            async with self._write() as session:
                if (first := self._next()) is not None:
                    made.append(first)
                    first.result = await first.work(session)
                    await session.flush()
                    await self._take_along(await session.connection(), made)
        except asyncio.CancelledError:
            for change in made:
                change.done.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for those to hear who wait
            self._fail(made, error)
        else:
            for change in made:
                change.tell()

    async def _take_along(self, connection: AsyncConnection, made: list[_Change]) -> None:
        until = time.monotonic() + LONGEST_SECONDS
        while len(made) < MOST_TOGETHER and time.monotonic() < until and (change := self._next()) is not None:
            made.append(change)
            await _make_one(connection, change)

    def _fail(self, made: list[_Change], error: Exception) -> None:
        """Tell everybody of a failure of the database, for which those in the line have waited in vain too."""
        if not isinstance(error, StorageError):
            for change in made:
                change.tell(error)
            return
        concerned = [*made, *self._waiting]
        self._waiting.clear()
        for change in concerned:
            change.tell(type(error)(*error.args))


async def _make_one(connection: AsyncConnection, change: _Change) -> None:
    """Make a change in a savepoint.

    Raises:
        Exception: what may have ended the whole transaction, as SQLite does by itself where the disk is full.
    """
    session = AsyncSession(connection, join_transaction_mode="create_savepoint", expire_on_commit=False)
    try:
        change.result = await change.work(session)
        await session.commit()
    except Exception as error:  # noqa: BLE001 - it is for whoever waits for this change, or for all
        if isinstance(error, DBAPIError | StorageError) and not isinstance(error, _OF_ONE):
            raise _told(error) from None
        change.error = error
        await session.rollback()  # fails where the transaction is gone, and the savepoint with it
    finally:
        with contextlib.suppress(DBAPIError):
            await session.close()


def _told(error: BaseException) -> BaseException:
    """Return the first typed error among those that led to this one, which may be only that the savepoint is gone."""
    found: BaseException | None = error
    while found is not None:
        typed = translated(found) if isinstance(found, DBAPIError) else found
        if isinstance(typed, StorageError):
            return typed
        found = found.__context__
    return error
