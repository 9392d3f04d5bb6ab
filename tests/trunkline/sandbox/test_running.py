"""Whether a sandbox runs, and stopping it from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.sandbox.layout import Layout
from trunkline.sandbox.processes import processes_of, supervisor_arguments
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
        assert holder.wait(30) == 0
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
        assert leftover.wait(30) != 0
        assert stranger.poll() is None
        stranger.kill()


def test_a_supervisor_that_has_not_come_to_its_lock_is_stopped_too(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "trunkline").write_text("echo 1; read line\n")  # what a shell with -m runs, under the same arguments
    layout.lock_file.touch()
    with subprocess.Popen(
        ["/bin/sh", *supervisor_arguments(str(layout.root)), "--nodes", "1"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as coming:
        assert coming.stdout is not None
        assert coming.stdout.readline() == b"1\n"
        assert stop_sandbox(layout)
        assert coming.wait(30) == -signal.SIGTERM


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_nothing_is_ended_or_made_because_of_another_users_directory(layout: Layout) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(layout.root)], stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            os.chown(layout.root, 65_534, 65_534)
            with pytest.raises(PermissionError, match="belongs to another user"):
                stop_sandbox(layout)
            with pytest.raises(PermissionError, match="belongs to another user"):
                layout.make(["vm-1"], ["relay"])
            assert holder.poll() is None
            assert [path.name for path in layout.root.iterdir()] == ["supervisor.lock"]
        finally:
            holder.terminate()
