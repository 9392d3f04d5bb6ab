"""Transactions on the control plane's database.

On SQLite there are two engines over one file: readers run in WAL snapshots that never wait, and writers take the write
lock at BEGIN (`BEGIN IMMEDIATE`), one at a time in this process. A transaction that began by reading can therefore
never fail with "database is locked" half-way, which no timeout would help against (https://sqlite.org/isolation.html).

On PostgreSQL it is the same: readers see one snapshot, and each writer begins by taking an advisory lock, so that
transactions which decide by what they read run one after the other, whichever process they are in. No wait for the
server is without an end (`server_engines`), and of those in the line nobody waits for more than one that was in vain.

Writers stand in one line, in which strangers, nodes and relays have one place each, for which they wait among
themselves: however many of them come at once, an operator who revokes something waits for three of them at most.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from contextvars import ContextVar
from enum import Enum
from typing import Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from control_plane.storage.errors import (
    MAYBE_DONE,
    StorageBusyError,
    StorageError,
    StorageFullError,
    StorageHeldError,
    StorageLostError,
    StorageReplacedError,
    StorageUnreachableError,
    reaching,
    translated,
    unopened,
)
from control_plane.storage.server_engines import ServerWaits, server_engines
from control_plane.storage.shared_commits import SharedCommits, T, Work
from control_plane.storage.sqlite_engines import (
    CLOSING_SECONDS,
    LOOK_SECONDS,
    READERS,
    FileConnections,
    NamedFile,
    sqlite_engines,
)

BUSY_TIMEOUT_SECONDS = 5.0
QUERY_TIMEOUT_SECONDS = 10.0
BUSY_ATTEMPTS = 4
NO_THREAD = "can't start new thread"
"""What Python says where the system refuses one."""
LARGE_LOG_BYTES = 256 * 1024**2
"""At which the write-ahead log is remarked: with nobody who reads for long it has a few megabytes."""
SCRUB_WAIT_SECONDS = 0.2
"""For how long writers wait for readers, where the write-ahead log is to be emptied."""


class Writers(Enum):
    """On whose behalf something is written."""

    OWN = "own"
    STRANGERS = "strangers"
    NODES = "nodes"
    RELAYS = "relays"


writers: ContextVar[Writers] = ContextVar("writers", default=Writers.OWN)
"""Of the task that writes; operators and the control plane itself are `OWN`."""


class Database:
    """One database; every transaction is either all done and on the disk, or not done at all."""

    def __init__(
        self,
        url: str,
        *,
        busy_timeout_seconds: float = BUSY_TIMEOUT_SECONDS,
        query_timeout_seconds: float = QUERY_TIMEOUT_SECONDS,
        sole_use: int | None = None,
    ) -> None:
        """Prepare it; SQLite's file is made where there is none.

        Args:
            url: where it is.
            busy_timeout_seconds: for how long another process that writes is waited for.
            query_timeout_seconds: for how long a server is waited for, at each step; migrations take their time.
            sole_use: the key of the lock without which nothing may be written to a server; see `sole_use.py`.

        Raises:
            StorageError: the file cannot be made or opened.
        """
        waits = ServerWaits(query_timeout_seconds, busy_timeout_seconds, sole_use)
        self._writing = asyncio.Lock()
        self._places: dict[Writers, asyncio.Lock] = {kind: asyncio.Lock() for kind in Writers}
        self._under_way: set[AsyncSession] = set()
        self._ending: set[asyncio.Future[None]] = set()
        self._connections = FileConnections()
        self._engines = _engines(make_url(url), waits, self._connections)
        self._file = NamedFile(make_url(url))
        self._reader = async_sessionmaker(self._engines[0], expire_on_commit=False)
        self._writer = async_sessionmaker(self._engines[1], expire_on_commit=False)
        self._shared = SharedCommits(self.write)
        self._losses = 0
        self._lost: type[StorageHeldError | StorageUnreachableError] = StorageUnreachableError
        self._away_since: float | None = None
        self._held_since: float | None = None
        self._full_since: float | None = None
        self._is_replaced = False
        self.lost = asyncio.Event()
        """Set once the database was found without its tables, or its account: no transaction is of use any more."""

    async def connect(self) -> None:
        """Make every connection to SQLite's file now: each has a thread, and later there may be none to be had.

        Raises:
            StorageError: the database cannot be opened.
        """
        if self.engine.dialect.name != "sqlite":
            return
        async with AsyncExitStack() as connections:
            for sessions, count in ((self._reader, READERS), (self._writer, 1)):
                for _ in range(count):
                    await _opened(await connections.enter_async_context(sessions()))

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that sees one moment of the database and cannot change it.

        Raises:
            StorageUnreachableError: there is no database at present, or it does not answer.
            StorageBusyError: all connections were in use for too long.
            StorageError: the database cannot be read.
        """
        session = self._begun(self._reader)
        try:
            with self._noting():
                await _connect(session)
                yield session
        finally:
            await self._end(session)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """Open a transaction that is committed, durably, when the block ends without an exception.

        Raises:
            StorageFullError: the disk is full or read-only, or the file was taken away; nothing was changed.
            StorageBusyError: another process kept the database; nothing was changed.
            StorageUnreachableError: it cannot be reached; if it was lost in the commit, the change may be made.
        """
        losses = self._losses
        async with self._place(), self._writing:
            if self._losses != losses:  # whoever came before has waited in vain, on behalf of all who stood here
                raise self._lost
            session = self._begun(self._writer)
            try:
                with self._noting(writing=True):
                    await _begin(session)
                    yield session
                    self._file.check()
                    await _commit(session)
            finally:
                await self._end(session)

    async def write_together(self, work: Work[T]) -> T:
        """Make a small change of the control plane or an operator; it may share a commit, see `shared_commits`.

        Returns:
            What `work` did, once the change is durable.

        Raises:
            StorageFullError, StorageBusyError, StorageUnreachableError: as `write`, for all that share the commit.
            Exception: what `work` raised; of it nothing was changed.
        """
        return await self._shared.make(work)

    def remark(self) -> str | None:
        """Say since when the database is away, or takes nothing; None while it does, as far as anybody has asked it."""
        now = time.monotonic()
        if self._away_since is not None:
            return (
                f"the database has not been reached for {now - self._away_since:.0f} s: requests that need it are "
                "answered with 503"
            )
        if self._held_since is not None:
            return (
                f"another process has kept the database for {now - self._held_since:.0f} s: requests that write are "
                "answered with 503"
            )
        if self._full_since is not None:
            why = "file, or its log, was deleted or replaced" if self._is_replaced else "disk is full or read-only"
            return (
                f"the database has taken nothing for {now - self._full_since:.0f} s, its {why}: "
                "requests that write are answered with 507"
            )
        return None

    def log_remark(self) -> str | None:
        """Say that SQLite's write-ahead log has grown, which only takes room; None while it has not."""
        log_bytes = self._file.log_bytes()
        if log_bytes >= LARGE_LOG_BYTES:
            return (
                f"the database's write-ahead log has {log_bytes >> 20} MiB, and grows for as long as somebody reads in "
                "one transaction: a copy of the database that stands still, say"
            )
        return None

    @contextlib.contextmanager
    def _noting(self, *, writing: bool = False) -> Iterator[None]:
        """Raise typed errors in place of the driver's, and note whether there is a database."""
        try:
            yield
        except (DBAPIError, StorageError) as error:
            typed = translated(error) if isinstance(error, DBAPIError) else error
            if isinstance(typed, StorageHeldError | StorageUnreachableError):
                self._losses += writing
                self._lost = StorageHeldError if isinstance(typed, StorageHeldError) else StorageUnreachableError
            self._note(typed)
            raise typed from None
        else:
            self._away_since = None
            if writing:
                self._held_since = self._full_since = None

    def _note(self, error: Exception) -> None:
        """Remember since when the database is away, held, or takes nothing, if that is what the error says."""
        now = time.monotonic()
        if isinstance(error, StorageUnreachableError):
            self._away_since = self._away_since or now
        elif isinstance(error, StorageHeldError):
            self._held_since = self._held_since or now
        elif isinstance(error, StorageFullError):
            self._full_since = self._full_since or now
            self._is_replaced = isinstance(error, StorageReplacedError)
        elif isinstance(error, StorageLostError):
            self.lost.set()

    def _place(self) -> AbstractAsyncContextManager[None]:
        """Return the place in the line of writers on whose behalf this task writes."""
        kind = writers.get()
        return nullcontext() if kind is Writers.OWN else self._places[kind]

    @property
    def engine(self) -> AsyncEngine:
        """The engine for migrations, which may write, and for which no statement takes too long."""
        return self._engines[-1]

    async def scrub(self) -> None:
        """Let nothing that was deleted stay in the files: on SQLite, empty the write-ahead log, which has old pages.

        Deleted content is overwritten in the pages themselves (secure_delete). Readers that are under way keep what
        they see; then it is left for the next time.

        Raises:
            StorageError: the database cannot be written.
        """
        if self.engine.dialect.name != "sqlite":
            return
        async with self._writing:
            try:
                async with self.engine.connect() as connection:
                    driver = (await connection.get_raw_connection()).driver_connection
                    if driver is not None:
                        await _scrub(driver)
            except sqlite3.Error as error:
                raise StorageError(f"the write-ahead log cannot be emptied: {error}") from None

    async def close(self) -> None:
        """Close every connection, once the transactions under way have ended; after it nothing holds the database.

        Those that nobody has told to end are left after `CLOSING_SECONDS`, with their connections.
        """
        attempts = round(CLOSING_SECONDS / LOOK_SECONDS)
        while self._under_way and attempts:  # a pool closes nothing that comes back to it later
            if self._ending:
                await asyncio.wait(self._ending)
            else:
                attempts -= 1
                await asyncio.sleep(LOOK_SECONDS)
        for engine in self._engines:
            await engine.dispose()
        if not self._under_way:  # else there is one that stays open, however long it is waited for
            await self._connections.closed()
        await asyncio.sleep(0)  # the loop has to let go of the sockets, too

    def _begun(self, make: async_sessionmaker[AsyncSession]) -> AsyncSession:
        session = make()
        self._under_way.add(session)
        return session

    async def _end(self, session: AsyncSession) -> None:
        """Give the connection back, also when the task that used it is cancelled meanwhile."""
        ending = asyncio.ensure_future(_close(session))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        ending.add_done_callback(lambda _: self._under_way.discard(session))
        await asyncio.shield(ending)


async def _scrub(driver: Any) -> None:
    """Empty the write-ahead log, unless readers need it for longer than anybody should wait."""
    [before] = await (await driver.execute("PRAGMA busy_timeout")).fetchone()
    await (await driver.execute(f"PRAGMA busy_timeout={round(SCRUB_WAIT_SECONDS * 1000)}")).close()
    try:
        await (await driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")).close()
    finally:
        await (await driver.execute(f"PRAGMA busy_timeout={before}")).close()


async def _opened(session: AsyncSession) -> None:
    try:
        await _connect(session)
    except DBAPIError as error:
        raise unopened(error) from None


async def _connect(session: AsyncSession) -> None:
    """Begin the transaction, on a connection that is there: whatever fails later is the driver's to tell.

    The system's own errors are told apart here: whoever answers a request takes a ConnectionError for its caller's.
    """
    try:
        with reaching():
            await session.connection()
    except PoolTimeoutError:
        raise StorageBusyError("the control plane's database is busy: all connections are in use; try again") from None
    except RuntimeError as error:
        if str(error) != NO_THREAD:
            raise
        raise StorageBusyError("the machine has no thread left for the control plane's database; try again") from None


async def _commit(session: AsyncSession) -> None:
    """Commit.

    Raises:
        StorageUnreachableError: nobody can tell whether it is; the message says that.
    """
    try:
        await session.commit()
    except (DBAPIError, StorageUnreachableError) as error:
        typed = translated(error) if isinstance(error, DBAPIError) else error
        if isinstance(typed, StorageUnreachableError):
            raise StorageUnreachableError(MAYBE_DONE) from None
        raise typed from None


async def _close(session: AsyncSession) -> None:
    """End a session; where nothing can be rolled back any more, its connection is given up, and the server does it."""
    with contextlib.suppress(DBAPIError, StorageUnreachableError, OSError, TimeoutError):
        await session.close()


async def _begin(session: AsyncSession) -> None:
    for attempt in range(1, BUSY_ATTEMPTS + 1):
        try:
            await _connect(session)
        except DBAPIError as error:
            typed = translated(error)
            if not isinstance(typed, StorageBusyError) or attempt == BUSY_ATTEMPTS:
                raise typed from None
            await session.rollback()
        else:
            return


def _engines(url: URL, waits: ServerWaits, connections: FileConnections) -> tuple[AsyncEngine, ...]:
    """Return the engines of readers and of writers, and last the one of migrations."""
    if url.get_backend_name() != "sqlite":
        return server_engines(url, waits)
    return sqlite_engines(url, waits.busy_timeout_seconds, connections)
