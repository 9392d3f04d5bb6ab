"""Two workspaces for the tests of what storage finds, changes and forgets."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.database import Database
from tests.support.tenants import fill


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
