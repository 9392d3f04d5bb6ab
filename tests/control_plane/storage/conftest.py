"""For the tests of what storage finds, changes and forgets: an empty database, and one of two workspaces."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.database import Database
from control_plane.storage.records.record import Record
from tests.support.tenants import fill


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """A transaction on a database in which nothing is."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'x.db'}")
    async with database.engine.begin() as connection:
        await connection.run_sync(Record.metadata.create_all)
    async with database.write() as session:
        yield session
    await database.close()


@pytest.fixture(scope="session")
def file_of_tenants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tenants") / "x.db"
    asyncio.run(fill(f"sqlite+aiosqlite:///{path}"))
    return path


@pytest.fixture
async def tenants(file_of_tenants: Path, tmp_path: Path) -> AsyncIterator[AsyncSession]:
    """A transaction on two workspaces, of which nothing is kept for other tests."""
    database = Database(f"sqlite+aiosqlite:///{shutil.copy(file_of_tenants, tmp_path)}")
    async with database.write() as session:
        yield session
    await database.close()
