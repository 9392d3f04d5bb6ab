"""The engines over SQLite's file: one for readers in WAL snapshots, and one for the only writer of this process."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import weakref
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from control_plane.storage.errors import StorageError, StorageReplacedError

READERS = 4
CLOSING_SECONDS = 10.0
KEPT_LOG_BYTES = 16 * 1024**2
"""How large the file of the write-ahead log stays once it is written to from its beginning again."""
LOOK_SECONDS = 0.005
_SUFFIXES = ("", "-wal", "-shm", "-journal")
_NOTHING_MORE = "the control plane writes nothing any more:"


class _FileConnection(sqlite3.Connection):
    """A connection that tells of its end: it is closed, or, where nobody got it any more, it goes."""

    gone: "weakref.finalize[Any, Any] | None" = None

    def close(self) -> None:
        """Close it, with nothing of a transaction left.

        Python closes by `sqlite3_close_v2`, which keeps a transaction and its locks for as long as there is a cursor of
        it, in the traceback of somebody who was cancelled, say.
        """
        with contextlib.suppress(sqlite3.Error):
            self.rollback()
        super().close()
        if self.gone is not None:
            self.gone()


class FileConnections:
    """The connections to the file that are open, in whichever thread.

    Whoever is cancelled while the database works for him leaves his connection to a thread of its own, which closes it
    once SQLite has done what it was told, a commit, say, that a slow disk takes its time for. Nobody waits for that
    but the end of the whole: who opens the file next, in this process or another, must not find it in use.
    """

    def __init__(self) -> None:
        self._open: set[object] = set()
        self._abandoned: set[asyncio.Task[None]] = set()

    async def connect(self, *arguments: Any, **options: Any) -> aiosqlite.Connection:
        """Open one; whoever is cancelled meanwhile leaves none open, which the driver would."""
        opening = asyncio.ensure_future(_opened(*arguments, factory=self._made, **options))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            closing = asyncio.ensure_future(_close(opening))
            self._abandoned.add(closing)
            closing.add_done_callback(self._abandoned.discard)
            raise

    def _made(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection, token = _FileConnection(*arguments, **options), object()
        self._open.add(token)
        connection.gone = weakref.finalize(connection, self._open.discard, token)
        return connection

    async def closed(self) -> None:
        """Wait until there is none, for `CLOSING_SECONDS` at most."""
        if self._abandoned:
            await asyncio.wait(self._abandoned, timeout=CLOSING_SECONDS)
        attempts = round(CLOSING_SECONDS / LOOK_SECONDS)
        while self._open and attempts:
            attempts -= 1
            await asyncio.sleep(LOOK_SECONDS)


class NamedFile:
    """The file that the database's name stands for, which somebody may take away: SQLite goes on with what it has open.

    Whatever is committed then, a revocation say, is gone with the process. So it is where the write-ahead log is taken
    away, unless the process ends in order, which brings into the file what only the log had.
    """

    def __init__(self, url: URL) -> None:
        """Take note of the file, which is there; a server, and a database in memory, have none."""
        named = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
        self._path = Path(url.database or "") if named else None
        self._log_path = None if self._path is None else self._path.with_name(f"{self._path.name}-wal")
        self._had_log = False
        self._log_is_lost = False
        self._identity: tuple[int, int] | None = None
        self._identity = self._look()

    def check(self) -> None:
        """Have it be the same still, and its log be there, as it is in each transaction that writes.

        Raises:
            StorageReplacedError: it is not, or its log was gone, now or at any time before.
        """
        if self._path is None or self._log_path is None:
            return
        if self._look() != self._identity:
            raise StorageReplacedError(
                f"{_NOTHING_MORE} its database {self._path} was deleted or replaced while it runs; put the right file "
                "there with the control plane stopped, and start it"
            )
        has_log = _is_there(self._log_path)
        self._log_is_lost |= self._had_log and not has_log
        self._had_log |= has_log
        if self._log_is_lost:
            raise StorageReplacedError(
                f"{_NOTHING_MORE} the log of its database, {self._log_path}, was deleted while it runs; stop it by "
                "SIGTERM, which saves what it has recorded, and start it"
            )

    def log_bytes(self) -> int:
        """Return the size of the write-ahead log beside it; 0 where there is none, or it cannot be told."""
        with contextlib.suppress(OSError):
            if self._log_path is not None:
                return self._log_path.stat().st_size
        return 0

    def _look(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return self._identity  # it cannot be told
        return found.st_dev, found.st_ino


def _is_there(path: Path) -> bool:
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError:
        pass  # it cannot be told
    return True


async def _opened(*arguments: Any, **options: Any) -> aiosqlite.Connection:
    connection = aiosqlite.connect(*arguments, **options)
    connection._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does, where it opens: no end waits for a thread
    return await connection


async def _close(opening: "asyncio.Future[aiosqlite.Connection]") -> None:
    with contextlib.suppress(sqlite3.Error):
        await (await opening).close()


def sqlite_engines(url: URL, busy_timeout_seconds: float, connections: FileConnections) -> tuple[AsyncEngine, ...]:
    """Return the engines of readers and of the writer; the file is made where there is none.

    Raises:
        StorageError: it cannot be made or opened, or others than this user and root may have written to it.
    """
    if url.database:
        _make_private(Path(url.database))
    options = {"timeout": busy_timeout_seconds, "async_creator_fn": connections.connect}
    writer = _engine(url, 1, options, "BEGIN IMMEDIATE", read_only=False)
    reader = _engine(url, READERS, options, "BEGIN", read_only=True)
    return (reader, writer)


def _make_private(path: Path) -> None:
    """Create the file with mode 0600; SQLite gives its -wal and -shm the same.

    What is there is looked at as every other state file is: who can write to the database, or leave a log beside it,
    which SQLite takes for the newest of it, decides who may run what where.
    """
    try:
        for suffix in _SUFFIXES:
            with contextlib.suppress(FileNotFoundError):
                _refuse_loose(path.with_name(path.name + suffix))
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StorageError(f"the database {path} cannot be opened: {error.strerror}") from None


def _refuse_loose(path: Path) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise StorageError(f"the database's file {path} is not a regular file: remove it, or restore the backup")
    if status.st_uid not in (os.geteuid(), 0):
        raise StorageError(f"the database's file {path} belongs to another user: chown it to this process's user")
    if status.st_mode & 0o077:
        raise StorageError(
            f"the database's file {path} can be read or written by others: chmod 600 it, and restore the backup if "
            "somebody may have written to it"
        )


def _engine(url: URL, size: int, options: dict[str, Any], begin: str, *, read_only: bool) -> AsyncEngine:
    engine = create_async_engine(url, pool_size=size, max_overflow=0, connect_args=options)

    def prepare(connection: DBAPIConnection, _: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute(f"PRAGMA journal_size_limit={KEPT_LOG_BYTES}")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
        cursor.close()

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine
