"""One control plane a database: a lock in PostgreSQL, held for as long as the connection that took it.

What a control plane knows of deliveries under way is in its memory, so another one over the same database would take
a command for never sent that is with its node already. SQLite's file is in the state directory, which has a lock of its
own. The server lets go of the lock when the connection ends, and looks for one whose machine has gone by keep-alives.

The connection holds a second lock, under a key that nobody else knows, for as long as the first: whoever writes, on
other connections, looks whether it is held (`server_engines`). So one that has lost the database to another, and does
not know it yet, writes nothing. By this key it also knows a session of its own again which the server has not given up
while the network was away: that one is ended, and is not taken for another control plane.

A server that takes no writes any more, since a standby has taken over, is let go of too: what is to be held is where
the name leads now.
"""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator

from sqlalchemy import NullPool, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from control_plane.storage.database import Database
from control_plane.storage.errors import (
    READ_ONLY,
    StorageError,
    StorageUnreachableError,
    for_the_log,
    reaching,
    translated,
)
from control_plane.storage.server_engines import KEEP_ALIVES
from trunkline.runtime.logs import Logger

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 10.0
RELEASE_SECONDS = 2.0
LOCK = int.from_bytes(b"trunksol")
"""Its number among the advisory locks of the database; writers take turns by another."""
_TRY = text("SELECT pg_try_advisory_lock(:lock)")
_HOLD = text("SELECT pg_advisory_lock(:lock)")
_TAKES_WRITES = text("SELECT NOT current_setting('transaction_read_only')::boolean")
_RELEASE = text("SELECT pg_advisory_unlock_all()")
_END_HOLDERS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    "AND mode = 'ExclusiveLock' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND (classid::bigint << 32) + objid::bigint = :lock"
)
_OWN_SESSION = "the database still has this control plane's own last connection, and has been told to end it"


class DatabaseTakenError(StorageError):
    """Another control plane uses this database."""


class SoleUse:
    """The lock of one control plane; with SQLite there is nothing to hold."""

    def __init__(self, url: str, log: Logger) -> None:
        self._log = log
        self._connection: AsyncConnection | None = None
        self.key = secrets.randbits(62)
        """Of the lock that is held as long as the database is; nobody else knows it."""
        self._is_needed = make_url(url).get_backend_name() == "postgresql"
        self._engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    async def take(self) -> None:
        """Take the lock.

        Raises:
            DatabaseTakenError: another control plane has it.
            StorageUnreachableError: there is no database at present, it takes no writes, or it has a connection of ours
                still.
        """
        if not self._is_needed:
            return
        try:
            with reaching():
                async with asyncio.timeout(ANSWER_SECONDS):
                    self._connection = await self._engine.connect()
                    taken, was_own = await self._try(self._connection)
        except DBAPIError as error:
            await self._let_go()
            raise translated(error) from None
        except StorageUnreachableError:
            await self._let_go()
            raise
        if not taken:
            await self._let_go()
            if was_own:
                raise StorageUnreachableError(_OWN_SESSION)
            raise DatabaseTakenError("another control plane uses this database: only one at a time may")

    async def _try(self, connection: AsyncConnection) -> tuple[bool, bool]:
        """Try to take both locks; returns whether that was done, and if not, whether it is this process that has them.

        A session of its own that the server still has is ended, which takes effect as soon as its machine goes on.
        """
        for setting in KEEP_ALIVES:
            await connection.execute(text(f"SET {setting}"))
        if not await connection.scalar(_TAKES_WRITES):
            raise StorageUnreachableError(READ_ONLY)
        if not await connection.scalar(_TRY, {"lock": LOCK}):
            return False, (await connection.execute(_END_HOLDERS, {"lock": self.key})).first() is not None
        await connection.execute(_HOLD, {"lock": self.key})
        return True, False

    async def keep(self) -> None:
        """Look every second whether the lock is still held, and take it again when the database was away.

        A lock at a server that takes no writes is none.

        Raises:
            DatabaseTakenError: another control plane has taken it meanwhile: this one must end.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._is_needed and not await self._is_held():
                await self._let_go()
                try:
                    await self.take()
                except DatabaseTakenError:
                    raise
                except StorageError as error:
                    self._log.error("database.away", reason=for_the_log(error))

    async def close(self) -> None:
        """Let another control plane have the database, at once if the server still answers."""
        if self._connection is not None:
            with contextlib.suppress(SQLAlchemyError, OSError, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS):
                    await self._connection.execute(_RELEASE)
        await self._let_go()
        await self._engine.dispose()

    async def _is_held(self) -> bool:
        if self._connection is None:
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return bool(await self._connection.scalar(_TAKES_WRITES))
        except (DBAPIError, OSError, TimeoutError):
            return False

    async def _let_go(self) -> None:
        """End the connection, whether or not the server still answers: with it ends the lock."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with contextlib.suppress(DBAPIError, OSError, TimeoutError):
            await connection.invalidate()
            await connection.close()
        await asyncio.sleep(0)  # the loop has to let go of the socket, too


@contextlib.asynccontextmanager
async def used_alone(url: str, query_timeout_seconds: float, log: Logger) -> AsyncIterator[Database]:
    """Have a database for a command line: no control plane runs on it meanwhile.

    Raises:
        DatabaseTakenError: one does.
        StorageUnreachableError: there is no database at present.
    """
    sole_use = SoleUse(url, log)
    database = Database(url, query_timeout_seconds=query_timeout_seconds, sole_use=sole_use.key)
    try:
        await sole_use.take()
        yield database
    finally:
        await database.close()
        await sole_use.close()
