"""What drivers raise becomes typed errors: a database that is away passes by itself, and a fault of ours does not."""

import pytest
from sqlalchemy.exc import DBAPIError

from control_plane.storage.errors import StorageBusyError, StorageFullError, StorageUnreachableError, translated


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
        ("40P01", StorageBusyError),
        ("53100", StorageFullError),
        ("42601", DBAPIError),
        (None, DBAPIError),
    ],
)
def test_states_of_postgresql(sqlstate: str | None, typed: type[Exception]):
    assert type(translated(raised(sqlstate))) is typed


def test_a_connection_that_broke_says_so_without_a_state():
    assert type(translated(raised(None, connection_invalidated=True))) is StorageUnreachableError
