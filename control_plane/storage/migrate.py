"""Bringing the database to the schema that this release reads."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError, reaching, unopened
from trunkline.version import __version__

MIGRATIONS = Path(__file__).parent.parent / "migrations"


class UnknownSchemaError(StorageError):
    """The database was written by a later release."""


async def migrate(database: Database) -> None:
    """Upgrade the database to the newest schema, in one transaction; does nothing if it is there already.

    Raises:
        UnknownSchemaError: a later release wrote it.
        StorageUnreachableError: there is no database at present.
        StorageError: it cannot be written, or is damaged.
    """
    try:
        with reaching():
            async with database.engine.begin() as connection:
                await connection.run_sync(_upgrade)
    except DBAPIError as error:
        raise unopened(error) from None


async def is_migrated(database: Database) -> bool:
    """Tell whether the database holds any schema of ours.

    Raises:
        StorageUnreachableError: there is no database at present.
        StorageError: it cannot be read, or is damaged.
    """
    try:
        async with database.read() as session:
            return await (await session.connection()).run_sync(_revision) is not None
    except DBAPIError as error:
        raise unopened(error) from None


def migration_config(connection: Connection) -> Config:
    """Return Alembic's configuration for our migrations on this connection."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _upgrade(connection: Connection) -> None:
    config = migration_config(connection)
    revision = _revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise UnknownSchemaError(
            f"the database has schema {revision}, which a later release than this one ({__version__}) wrote: run that "
            "release, or restore the backup of before it"
        )
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
