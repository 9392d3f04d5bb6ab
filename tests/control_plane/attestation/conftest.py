"""One control plane with emulated clouds per test."""

from pathlib import Path

import pytest

from tests.support.emulated_clouds import cloud_plane


@pytest.fixture
async def cloudy(tmp_path: Path):
    async with cloud_plane(tmp_path) as running:
        yield running
