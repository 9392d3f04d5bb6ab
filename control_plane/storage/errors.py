"""The typed errors of the database, and the one place that translates the driver's into them."""

import contextlib
import os
import sqlite3
from collections.abc import Iterator

from sqlalchemy.exc import DBAPIError

_FULL = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN}
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_POSTGRES_FULL = {"53100"}  # disk_full
_POSTGRES_READ_ONLY = "25006"  # read_only_sql_transaction
_POSTGRES_BUSY = {"40001", "40P01", "55P03"}  # serialization_failure, deadlock_detected, lock_not_available
# admin_shutdown, crash_shutdown, cannot_connect_now, database_dropped
_POSTGRES_AWAY = {"57P01", "57P02", "57P03", "57P04"}
_POSTGRES_AWAY_CLASSES = {"08", "53", "58"}  # connection exceptions, insufficient resources, system errors
_POSTGRES_CROWDED = "53300"  # too_many_connections
# query_canceled, idle_in_transaction_session_timeout, idle_session_timeout
_POSTGRES_LATE = {"57014", "25P03", "57P05"}
_POSTGRES_REFUSES = {
    "28P01": "its password is not accepted",
    "28000": "its role may not log in (pg_hba.conf, NOLOGIN)",
    "3D000": "there is no database of this name",
    "42501": "its role lacks a privilege",
    "55000": "it is closed to connections",
}
"""What is mended at the server, where it may be seen to while we run; until then there is no database."""
_POSTGRES_GONE = {"42P01", "3F000"}  # undefined_table, invalid_schema_name
_WRONG_SETTINGS = "ClientConfigurationError"
"""The name of what asyncpg raises of them: it has no state, and the package may not be there."""
_SQLITE_GONE = "no such table"
"""How SQLite tells what it has no code for."""
READ_ONLY = (
    "the control plane's database takes no writes at present: its server is a standby, or made read-only; try again"
)
NO_ANSWER = "the control plane's database does not answer in time; try again"
NO_CONNECTION = "the control plane's database has no connection left for it (max_connections); try again"
MAYBE_DONE = (
    "the control plane's database was lost while a change was being recorded, which may be done or not; look, or ask "
    "for the same again"
)


class StorageError(Exception):
    """The database could not do what was asked; nothing of it was done."""


class StorageFullError(StorageError):
    """The database cannot grow or be written: the disk is full, or its file system is read-only."""


class StorageReplacedError(StorageFullError):
    """The open file, or its log, is not what its name stands for: what is written to it may be gone with us."""


class StorageBusyError(StorageError):
    """What the database needs could not be had for longer than we wait; the same request may be made again."""


class StorageHeldError(StorageBusyError):
    """Another process held the database."""

    def __init__(self, message: str = "the control plane's database is in use by another process; try again") -> None:
        super().__init__(message)


class StorageLostError(StorageError):
    """The database is none any more that this process can go on with: a table is gone, or all that was in it."""

    def __init__(self, message: str = "the control plane's database has lost its tables, or what was in them") -> None:
        super().__init__(message)


class StorageUnreachableError(StorageError):
    """The database cannot be reached, or was lost in the middle: what was being committed may be done, or not.

    `why` is what the driver or the system says of it. It names files and addresses, so it is for the log, and not for
    whoever asks.
    """

    def __init__(
        self, message: str = "the control plane's database cannot be reached at present; try again", why: str = ""
    ) -> None:
        super().__init__(message)
        self.why = why


def translated(error: DBAPIError) -> Exception:
    """Return the typed error for what the driver raised, or the driver's own if it means a fault of ours."""
    code = _primary_code(error)
    if code == sqlite3.SQLITE_CANTOPEN and not _has_descriptors():
        return StorageBusyError("the control plane has no descriptors left to open its database; try again")
    if code in _FULL or code in _POSTGRES_FULL:
        return StorageFullError("the control plane cannot write to its database: the disk is full or read-only")
    if code in _BUSY or code in _POSTGRES_BUSY:
        return StorageHeldError()
    if code in _POSTGRES_GONE or (code == sqlite3.SQLITE_ERROR and str(error.orig).startswith(_SQLITE_GONE)):
        return StorageLostError()
    if code == _POSTGRES_READ_ONLY:
        return StorageUnreachableError(READ_ONLY)
    if code == _POSTGRES_CROWDED:
        return StorageUnreachableError(NO_CONNECTION)
    if code in _POSTGRES_LATE:
        return StorageUnreachableError(NO_ANSWER)
    if code in _POSTGRES_REFUSES:
        why = _POSTGRES_REFUSES[str(code)]
        return StorageUnreachableError(f"the control plane's database does not let it in: {why}; try again later")
    if error.connection_invalidated or code in _POSTGRES_AWAY or str(code)[:2] in _POSTGRES_AWAY_CLASSES:
        return StorageUnreachableError()
    return _wrong_settings(error) or error


def is_read_only(error: BaseException | None) -> bool:
    """Whether the driver's error says that the server takes no writes."""
    return isinstance(error, DBAPIError) and _primary_code(error) == _POSTGRES_READ_ONLY


@contextlib.contextmanager
def reaching() -> Iterator[None]:
    """Raise a typed error where no connection comes about; not in place of a DBAPIError, which says why.

    What ends one after it was made, and before it is of use, the driver tells as its own: SQLAlchemy translates nothing
    of what it meets there.

    Raises:
        StorageUnreachableError: there is no database at present.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError | TimeoutError) or type(error).__module__.startswith("asyncpg."):
            raise StorageUnreachableError(why=str(error) or type(error).__name__) from None
        raise


def for_the_log(error: Exception) -> str:
    """Return what an operator is told of an error: what whoever asks is told, and behind it why."""
    why = error.why if isinstance(error, StorageUnreachableError) else ""
    return f"{error} ({why})" if why else str(error)


def unopened(error: DBAPIError) -> Exception:
    """Return the typed error for what the driver raised as the database was opened: the file may be none of its."""
    if _primary_code(error) in _DAMAGED:
        return StorageError(f"the database is damaged, or no database ({error.orig}): restore it from a backup")
    return translated(error)


def _has_descriptors() -> bool:
    """Whether a file can be opened at all: SQLite says of one that cannot be no more than that."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _wrong_settings(error: DBAPIError) -> StorageError | None:
    """Return the typed error for what PostgreSQL's driver does not dial with: roots that are nowhere, for one."""
    cause: BaseException | None = error.orig
    while cause is not None:
        if type(cause).__name__ == _WRONG_SETTINGS:
            return StorageError(f"the control plane's database cannot be dialled as its settings say: {cause}")
        cause = cause.__cause__
    return None


def _primary_code(error: DBAPIError) -> int | str | None:
    """Return SQLite's primary result code (https://sqlite.org/rescode.html) or PostgreSQL's SQLSTATE."""
    cause: BaseException | None = error.orig
    while cause is not None:
        code = getattr(cause, "sqlite_errorcode", None)
        if isinstance(code, int):
            return code & 0xFF
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return state
        cause = cause.__cause__
    return None
