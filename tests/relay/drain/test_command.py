"""`trunkline relay drain`: whom it finds, and what it tells."""

import asyncio
import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer

from relay.app import main
from relay.drain.command import drain, lock_holder
from relay.settings import ControlPlaneSettings, RelaySettings
from trunkline.runtime.daemon import EXIT_TEMPORARY, EXIT_UNAVAILABLE, EXIT_USAGE, StartError

HOLDER = """
import fcntl, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0) if sys.argv[2] == "go" else None)
if sys.argv[2] == "drain":
    signal.signal(signal.SIGUSR1, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("held", flush=True)
while True:
    signal.pause()
"""


def settings(state: Path) -> RelaySettings:
    state.mkdir(exist_ok=True)
    return RelaySettings(state_directory=state, control_plane=ControlPlaneSettings(url="https://localhost:1"))


class Holder:
    """A process that holds the lock as a relay does."""

    def __init__(self, state: Path, behaviour: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(state / "lock"), behaviour], stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"held\n"
        self.pid = self._process.pid

    def __enter__(self) -> "Holder":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_the_holder_of_a_lock_is_found(tmp_path: Path):
    lock = tmp_path / "lock"
    assert lock_holder(lock) is None
    with lock.open("w") as file:
        assert lock_holder(lock) is None
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(lock) == os.getpid()
    assert lock_holder(lock) is None


def test_the_holder_is_found_where_the_kernel_lists_another_device(tmp_path: Path):
    lock, locks = tmp_path / "lock", tmp_path / "locks"
    with lock.open("w") as file, (tmp_path / "other").open("w") as other, lock.open("r"):
        fcntl.flock(other, fcntl.LOCK_EX)
        locks.write_text(re.sub(r"\b[0-9a-f]+:[0-9a-f]+:(?=\d)", "00:00:", Path("/proc/locks").read_text()))
        assert lock_holder(lock, locks) is None, "it has it open, and has not locked it"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(lock, locks) == os.getpid()


async def test_without_a_relay_it_says_so(tmp_path: Path):
    with pytest.raises(StartError, match="no relay runs") as raised:
        await drain(settings(tmp_path / "state"), wait=True)
    assert raised.value.exit_code == EXIT_UNAVAILABLE


async def test_it_waits_for_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = settings(tmp_path / "state")
    with Holder(given.state_directory, "go") as holder:
        async with asyncio.timeout(30):
            await drain(given, wait=True)
        said = capsys.readouterr().out.splitlines()
        assert said == [f"relay {holder.pid} was asked to end", f"relay {holder.pid} has ended"]


async def test_a_fifo_in_the_place_of_the_endpoints_is_not_waited_for(tmp_path: Path):
    given = settings(tmp_path / "state")
    os.mkfifo(given.state_directory / "endpoints.json")
    with Holder(given.state_directory, "go"):
        async with asyncio.timeout(30):
            await drain(given, wait=True)


async def test_a_relay_that_drains_already_is_not_told_to_stop_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given = settings(tmp_path / "state")

    async def standing(request: web.BaseRequest) -> web.Response:
        return web.json_response({"draining": True}, status=503)

    async with RawTestServer(standing) as server:
        with Holder(given.state_directory, "go") as holder:
            admin_url = str(server.make_url("")).rstrip("/")
            endpoints = json.dumps({"pid": holder.pid, "admin_url": admin_url})
            (given.state_directory / "endpoints.json").write_text(endpoints)
            with pytest.raises(StartError, match="goes on draining"):
                await drain(given, wait=True, timeout_seconds=0.05)
            assert capsys.readouterr().out == f"relay {holder.pid} was asked to end before\n"
            assert lock_holder(given.state_directory / "lock") == holder.pid


async def test_two_who_ask_in_the_same_moment_do_not_stop_it_at_once(tmp_path: Path):
    given = settings(tmp_path / "state")
    with Holder(given.state_directory, "drain") as holder:
        asking = [drain(given, wait=True, timeout_seconds=0.05) for _ in range(2)]
        ends = await asyncio.gather(*asking, return_exceptions=True)
        assert ["goes on draining" in str(end) for end in ends] == [True, True]
        assert lock_holder(given.state_directory / "lock") == holder.pid


async def test_it_waits_no_longer_than_told(tmp_path: Path):
    given = settings(tmp_path / "state")
    with Holder(given.state_directory, "stay"):
        with pytest.raises(StartError, match="goes on draining") as raised:
            await drain(given, wait=True, timeout_seconds=0.05)
        assert raised.value.exit_code == EXIT_TEMPORARY


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--wait", "--timeout", "soon"], "'soon' is no number of seconds above 0"),
        (["--wait", "--timeout", "-3"], "'-3' is no number of seconds above 0"),
        (["--wait", "--timeout", "nan"], "'nan' is no number of seconds above 0"),
        (["--timeout", "3"], "--timeout says how long --wait takes"),
    ],
)
def test_wrong_arguments_ask_no_relay_to_end(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        main(["drain", "--config", "of-nobody.toml", *arguments])
    assert ended.value.code == EXIT_USAGE
    said = capsys.readouterr().err
    assert said.startswith("trunkline relay drain: ")
    assert told in said
