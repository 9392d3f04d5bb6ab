"""What holds for every test: on which event loops it runs, on which worker, and that nothing is left behind."""

import asyncio
import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer

from tests.support.left_rules import remove_left_rules
from tests.support.scheduling import SandboxesTogether, turn
from tests.support.virtual_time import VirtualTimeLoop
from trunkline.runtime.loop import loop_factory

PROPERTY_EXAMPLES = int(os.environ.get("TRUNKLINE_EXAMPLES", "2000"))

# How long an example takes says how busy the machine is, not whether the property holds. The same examples each time: a
# change is judged by what it changes. `make properties` looks further, at examples that nobody has seen yet.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "search", max_examples=PROPERTY_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """asyncio's own loop, but for modules that ask for more.

    `BOTH_LOOPS = True` (those that open sockets): asyncio's and the fast one. `VIRTUAL_TIME = True` (those that open
    none): a loop whose time jumps when nothing is to be done.
    """
    module = getattr(item, "module", None)
    if getattr(module, "BOTH_LOOPS", False):
        return {"asyncio": asyncio.new_event_loop, "fast": loop_factory("auto")}
    if getattr(module, "VIRTUAL_TIME", False):
        return {"virtual": VirtualTimeLoop}
    return {"asyncio": asyncio.new_event_loop}


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """As many as there are processors, and with `auto` two more: end-to-end tests wait more than they compute."""
    return len(os.sched_getaffinity(0)) + (2 if config.option.numprocesses == "auto" else 0)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """End-to-end tests first, and of those what takes longest."""
    items.sort(key=lambda item: turn(item.nodeid))


def pytest_sessionstart() -> None:
    """Nearly all that is loaded and collected now lives until the end: nobody looks for cycles in it time and again."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.enable()
    _set_aside()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a file leaves is set aside too, and all the rest where a daemon that ended has taken it back.

    Nobody asks first how much is set aside: to count that takes longer than this.
    """
    if nextitem is not None and nextitem.path != item.path:
        _set_aside()


def _set_aside() -> None:
    gc.collect()
    gc.freeze()


FAREWELL_SECONDS = 20.0


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> SandboxesTogether:
    """Tests of a sandbox stay on one worker, and all others go file by file to whichever is free."""
    return SandboxesTogether(config, log)


def _open_sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found


def _children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture(autouse=True, scope="session")
def no_rules_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What agents that were killed have told the firewall would slow down this machine for good."""
    yield
    remove_left_rules(tmp_path_factory.getbasetemp())


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test that leaves a socket or a child process (end-to-end tests share a sandbox, and are not asked)."""
    if request.node.get_closest_marker("e2e") is not None:
        yield
        return
    sockets, children = _open_sockets(), _children()
    yield
    if not _open_sockets() <= sockets:
        gc.collect()  # an abandoned loop's self-pipe goes with its garbage
    end = time.monotonic() + FAREWELL_SECONDS
    while not _open_sockets() <= sockets and time.monotonic() < end:
        time.sleep(0.01)  # a service on a thread of this process hears of its callers' going in its own time
    assert _open_sockets() <= sockets, "the test left sockets open"
    assert _children() <= children, "the test left processes behind"
