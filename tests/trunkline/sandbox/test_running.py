"""Whether a sandbox runs, and stopping it from outside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.sandbox.layout import Layout
from trunkline.sandbox.processes import processes_of
from trunkline.sandbox.running import AlreadyRunning, stop_leftovers, stop_sandbox, supervision

HOLDER = """
import signal, sys
from pathlib import Path
from trunkline.sandbox.layout import Layout
from trunkline.sandbox.running import supervision
with supervision(Layout(Path(sys.argv[1]))):
    print("held", flush=True)
    signal.sigwait({signal.SIGTERM})
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def test_one_supervisor_a_directory(layout: Layout) -> None:
    with supervision(layout), pytest.raises(AlreadyRunning), supervision(layout):
        pass
    with supervision(layout):
        pass


def test_nothing_to_stop(layout: Layout) -> None:
    assert not stop_sandbox(layout)
    with supervision(layout):
        pass
    assert not stop_sandbox(layout)


def test_stopping_asks_the_supervisor_and_waits(layout: Layout) -> None:
    code = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n" + HOLDER
    command = [sys.executable, "-c", code, str(layout.root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        layout.description_file.write_text("{}")
        assert stop_sandbox(layout)
        assert holder.wait(10) == 0
    assert not layout.description_file.exists()


def test_leftovers_are_found_by_their_arguments_and_strangers_are_not(layout: Layout) -> None:
    wait = "import signal; signal.sigwait({signal.SIGUSR1})"
    names = ["trunkline.sandbox.child", f"{layout.root}/relay/config.toml"]
    with (
        subprocess.Popen([sys.executable, "-c", wait, *names]) as leftover,
        subprocess.Popen([sys.executable, "-c", wait, "trunkline.sandbox.child", f"{layout.root}-other/x"]) as stranger,
    ):
        while processes_of(layout.root) != {leftover.pid}:
            assert leftover.poll() is None
        stop_leftovers(layout)
        assert leftover.wait(10) != 0
        assert stranger.poll() is None
        stranger.kill()
