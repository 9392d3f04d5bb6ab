import asyncio
import os
import resource
import signal
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from node_agent.commands.process import Ending, Process, ProcessPlan, StartFailed


def plan(*argv, **changes):
    fields = {"argv": list(argv), "environment": {}, "working_directory": "/", "user": None, "stdin": None}
    return ProcessPlan(**(fields | changes))


class FileSink:
    """A sink that writes a file, and says when there is something in it."""

    def __init__(self, path):
        self._file = path.open("wb", buffering=0)
        self.written = asyncio.Event()

    def append(self, chunk):
        self._file.write(chunk)
        self.written.set()

    def finish(self):
        self._file.close()


@asynccontextmanager
async def spools(tmp_path):
    made = [FileSink(tmp_path / name) for name in ("stdout", "stderr")]
    try:
        yield made
    finally:
        for spool in made:
            spool.finish()


async def run(tmp_path, process_plan):
    async with spools(tmp_path) as (stdout, stderr):
        process = await Process.start(process_plan, stdout, stderr)
        ending = await process.finish()
    return ending, (tmp_path / "stdout").read_bytes(), (tmp_path / "stderr").read_bytes()


async def test_status_and_output_are_those_of_the_process(tmp_path):
    ending, stdout, stderr = await run(tmp_path, plan("sh", "-c", "echo out; echo err >&2; exit 3"))
    assert (ending, stdout, stderr) == (Ending(3, None), b"out\n", b"err\n")


def numbers_of_descriptors():
    with os.scandir("/proc/self/fd") as entries:
        found = {int(entry.name) for entry in entries}
    return {number for number in found if Path(f"/proc/self/fd/{number}").exists()}


@pytest.mark.parametrize("left", range(14))
async def test_without_descriptors_a_start_fails_and_leaves_nothing(tmp_path, left):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with spools(tmp_path) as (stdout, stderr):
        await (await Process.start(plan("true"), stdout, stderr)).finish()  # what is opened once is open
        before = numbers_of_descriptors()
        free = [number for number in range(max(before) + left + 2) if number not in before]
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[left], limits[1]))
        failures = []
        try:
            await (await Process.start(plan("sleep", "0"), stdout, stderr)).finish()
        except StartFailed as error:
            failures.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert all("Too many open files" in failure for failure in failures)
        assert numbers_of_descriptors() == before


async def test_arguments_are_taken_as_they_are(tmp_path):
    payload = "$(id); `id` | & > * \" ' \\ \n"
    _, stdout, _ = await run(tmp_path, plan("printf", "%s", payload))
    assert stdout == payload.encode()


async def test_standard_input_reaches_its_end(tmp_path):
    content = bytes(range(256)) * 4096
    _, stdout, _ = await run(tmp_path, plan("cat", stdin=content))
    assert stdout == content


async def test_without_standard_input_there_is_nothing_to_read(tmp_path):
    assert (await run(tmp_path, plan("cat")))[:2] == (Ending(0, None), b"")


async def test_nothing_of_the_agents_environment_is_inherited(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUNKLINE_NODE_AGENT__SECRET", "x")
    _, stdout, _ = await run(tmp_path, plan("env", environment={"GIVEN": "1"}))
    names = {line.partition(b"=")[0] for line in stdout.splitlines()}
    assert names == {b"PATH", b"HOME", b"USER", b"LOGNAME", b"LANG", b"GIVEN"}


async def test_only_standard_descriptors_are_open(tmp_path):
    _, stdout, _ = await run(tmp_path, plan("sh", "-c", "ls /proc/self/fd | wc -l"))
    assert int(stdout) == 4  # three, and the one that ls reads the directory with


async def test_working_directory_and_user(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can switch")
    tmp_path.chmod(0o755)
    _, stdout, _ = await run(tmp_path, plan("sh", "-c", "pwd; id -un; id -G", working_directory="/tmp", user="nobody"))
    assert stdout.splitlines()[:2] == [b"/tmp", b"nobody"]
    assert b"0" not in stdout.splitlines()[2].split()


@pytest.mark.parametrize(
    "process_plan",
    [
        plan("/no/such/program"),
        plan("/etc/hostname"),
        plan("true", working_directory="/no/such/directory"),
        plan("true", user="no-such-user"),
        plan("true", *["x" * 100_000] * 100),
    ],
)
async def test_what_cannot_be_started_says_why_and_leaves_nothing(tmp_path, process_plan):
    open_before = open_descriptors()
    with pytest.raises(StartFailed) as failed:
        await run(tmp_path, process_plan)
    assert "\n" not in str(failed.value)
    assert len(str(failed.value)) < 400
    assert str(failed.value).count(process_plan.argv[0]) <= 1
    assert open_descriptors() == open_before


async def test_stop_ends_a_process_that_hears(tmp_path):
    async with spools(tmp_path) as (stdout, stderr):
        process = await Process.start(plan("sleep", "60"), stdout, stderr)
        await process.stop(10)
        assert await process.finish() == Ending(None, signal.SIGTERM)


async def test_stop_kills_what_does_not_hear_with_its_children(tmp_path, until):
    async with spools(tmp_path) as (stdout, stderr):
        script = "trap '' TERM; sleep 60 & echo $!; while :; do sleep 1; done"
        process = await Process.start(plan("sh", "-c", script), stdout, stderr)
        await stdout.written.wait()
        await process.stop(0.1)
        assert await process.finish() == Ending(None, signal.SIGKILL)
    pid = int((tmp_path / "stdout").read_bytes())
    await until(lambda: gone(pid))


async def test_what_a_process_leaves_behind_in_its_group_is_killed(tmp_path, until):
    ending, stdout, _ = await run(tmp_path, plan("sh", "-c", "sleep 60 & echo $!"))
    assert ending == Ending(0, None)
    await until(lambda: gone(int(stdout)))


async def test_a_daemon_that_keeps_the_pipe_does_not_keep_the_command(tmp_path):
    async with spools(tmp_path) as (stdout, stderr):
        process = await Process.start(plan("sh", "-c", "setsid sleep 60 & echo $!"), stdout, stderr)
        async with asyncio.timeout(30):
            assert await process.finish() == Ending(0, None)
    os.kill(int((tmp_path / "stdout").read_bytes()), signal.SIGKILL)


async def test_much_output_is_whole(tmp_path):
    _, stdout, _ = await run(tmp_path, plan("sh", "-c", "seq 1 500000"))
    assert stdout == b"".join(b"%d\n" % number for number in range(1, 500001))


def open_descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_start_that_is_given_up_leaves_no_process(tmp_path):
    async with spools(tmp_path) as (stdout, stderr):
        before, descriptors = children(), numbers_of_descriptors()
        starting = asyncio.create_task(Process.start(plan("sleep", "60"), stdout, stderr))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        await asyncio.get_running_loop().shutdown_default_executor()
        assert (children(), numbers_of_descriptors()) == (before, descriptors)


def children():
    found = (listed.read_text() for listed in Path("/proc/self/task").glob("*/children"))
    return {pid for pids in found for pid in pids.split()}
