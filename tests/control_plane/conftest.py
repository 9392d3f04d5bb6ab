"""One control plane per test."""

from pathlib import Path

import pytest

from tests.support.command_stage import command_stage
from tests.support.control_planes import running_control_plane


@pytest.fixture
async def plane(tmp_path: Path):
    async with running_control_plane(tmp_path) as running:
        yield running


@pytest.fixture
async def stage(tmp_path: Path):
    async with command_stage(tmp_path) as running:
        yield running


@pytest.fixture
async def hurried(tmp_path: Path):
    """A stage on which commands have two seconds to be delivered."""
    async with command_stage(tmp_path, delivery_seconds=2) as running:
        yield running
