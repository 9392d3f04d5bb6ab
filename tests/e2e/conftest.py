"""The sandboxes that end-to-end tests share."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandboxes import Sandbox, running_sandbox, wait_until

HERE = f"{Path(__file__).parent}/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, and give them the time that processes need."""
    for item in items:
        if str(item.path).startswith(HERE):
            item.add_marker(pytest.mark.e2e)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))


@pytest.fixture
def hangups_end() -> Iterator[None]:
    """What a test starts is ended by SIGHUP, as by default, also where `nohup` has had this process ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox with two nodes that no test breaks."""
    with running_sandbox(tmp_path_factory.mktemp("sandbox") / "state") as running:
        yield running


@pytest.fixture(scope="session")
def sandbox_of_kills(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with running_sandbox(tmp_path_factory.mktemp("kills") / "state") as running:
        yield running


@pytest.fixture
def revived_sandbox(sandbox_of_kills: Sandbox) -> Sandbox:
    """A sandbox with two nodes, whose daemons a test may kill; whatever the last one has killed is back."""

    def works() -> bool:
        return sandbox_of_kills.trunkline("run", "--all", "--", "true", check=False).returncode == 0

    wait_until(works, "the sandbox works")
    return sandbox_of_kills


@pytest.fixture(scope="module")
def fragile_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A sandbox of the module's own, for tests that kill its daemons."""
    with running_sandbox(tmp_path_factory.mktemp("fragile") / "state") as running:
        yield running
