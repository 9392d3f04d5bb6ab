"""What drivers raise becomes typed errors: a database that is away passes by itself, and a fault of ours does not."""

import resource
import sqlite3

import pytest
from sqlalchemy.exc import DBAPIError

from control_plane.storage.errors import (
    StorageBusyError,
    StorageFullError,
    StorageHeldError,
    StorageLostError,
    StorageUnreachableError,
    translated,
)


class DriverError(Exception):
    """What a driver for PostgreSQL raises: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("no")
        self.sqlstate = sqlstate


def raised(sqlstate: str | None, *, connection_invalidated: bool = False) -> DBAPIError:
    return DBAPIError("SELECT 1", {}, DriverError(sqlstate), connection_invalidated=connection_invalidated)


@pytest.mark.parametrize(
    ("sqlstate", "typed"),
    [
        ("57P01", StorageUnreachableError),
        ("57P02", StorageUnreachableError),
        ("57P03", StorageUnreachableError),
        ("53300", StorageUnreachableError),
        ("08006", StorageUnreachableError),
        ("53200", StorageUnreachableError),
        ("58030", StorageUnreachableError),
        ("28P01", StorageUnreachableError),
        ("28000", StorageUnreachableError),
        ("3D000", StorageUnreachableError),
        ("42501", StorageUnreachableError),
        ("55000", StorageUnreachableError),
        ("25006", StorageUnreachableError),
        ("40P01", StorageHeldError),
        ("53100", StorageFullError),
        ("42P01", StorageLostError),
        ("3F000", StorageLostError),
        ("42601", DBAPIError),
        ("42703", DBAPIError),
        (None, DBAPIError),
    ],
)
def test_states_of_postgresql(sqlstate: str | None, typed: type[Exception]):
    assert type(translated(raised(sqlstate))) is typed


def test_a_server_whose_connections_are_all_taken_is_told_from_one_that_is_away():
    assert "max_connections" in str(translated(raised("53300")))


def test_a_server_that_lets_nobody_in_says_what_is_to_be_mended_there():
    assert "password" in str(translated(raised("28P01")))
    assert "pg_hba.conf" in str(translated(raised("28000")))


def test_a_connection_that_broke_says_so_without_a_state():
    assert type(translated(raised(None, connection_invalidated=True))) is StorageUnreachableError


def test_a_database_that_cannot_be_opened_for_want_of_descriptors_is_busy_and_its_disk_not_full():
    cause = sqlite3.OperationalError("unable to open database file")
    cause.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
    error = DBAPIError("SELECT 1", {}, cause)
    assert type(translated(error)) is StorageFullError
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert type(translated(error)) is StorageBusyError
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
