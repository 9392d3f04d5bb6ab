"""One control plane per test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command_stage import IMPATIENT, command_stage
from tests.support.control_planes import running_control_plane
from tests.support.shared_statements import shared_statements


@pytest.fixture(scope="session", autouse=True)
def statements_are_compiled_once() -> Iterator[None]:
    with shared_statements():
        yield


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


@pytest.fixture
async def impatient(tmp_path: Path):
    """A stage on which nodes have half a second to answer."""
    async with command_stage(tmp_path, **IMPATIENT) as running:
        yield running
