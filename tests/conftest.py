"""What holds for every test: nothing is left behind."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


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
    assert _open_sockets() <= sockets, "the test left sockets open"
    assert _children() <= children, "the test left processes behind"
