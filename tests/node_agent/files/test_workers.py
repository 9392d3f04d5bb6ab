"""Workers: they are the user before they touch a file, are lent again, and end with any doubt."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from node_agent.commands.accounts import find_account
from node_agent.files.failures import FileFailed
from node_agent.files.worker_process import WorkerGone, WorkerProcess
from node_agent.files.workers import Workers

LOOK = {"do": "look", "anchor": "/etc", "parts": ["passwd"], "follow": False}
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    workers = Workers(idle_seconds=60)
    yield workers
    await workers.stop()


async def pid_of(workers: Workers, name: str | None = None) -> int:
    async with workers.lent(find_account(name)) as worker:
        await worker.say(LOOK)
        return worker.pid


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


def held_by(pid: int) -> set[str]:
    return {str(entry.readlink()).partition(":")[0] for entry in Path(f"/proc/{pid}/fd").iterdir()}


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_one_is_lent_again_to_the_same_user(workers: Workers) -> None:
    assert await pid_of(workers) == await pid_of(workers)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")
async def test_it_has_become_the_user_and_cannot_go_back(workers: Workers, tmp_path: Path) -> None:
    pid, own = await pid_of(workers, "nobody"), await pid_of(workers)
    assert pid != own
    status, account = status_of(pid), find_account("nobody")
    assert status["Uid"].split() == [str(account.uid)] * 4
    assert status["Gid"].split() == [str(account.gid)] * 4
    assert {int(group) for group in status["Groups"].split()} == set(account.groups)
    assert {int(status[capabilities], 16) for capabilities in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {0}
    assert status["NoNewPrivs"] == "1"
    assert environment_of(pid) == b""
    assert held_by(pid) == {"/dev/null", "socket"}, "nothing of the agent's is open in it"
    async with workers.lent(account) as worker:
        with pytest.raises(FileFailed) as refused:
            await worker.say(LOOK | {"anchor": str(tmp_path), "parts": ["x"]})
    assert refused.value.symbol == "EACCES"


async def test_nothing_that_the_agent_was_started_with_is_open_in_it(workers: Workers, tmp_path: Path) -> None:
    with (tmp_path / "of our starter").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert held_by(await pid_of(workers)) == {"/dev/null", "socket"}


async def test_one_whose_borrower_failed_is_not_lent_again(workers: Workers, until: Until) -> None:
    pid = await pid_of(workers)
    with pytest.raises(ZeroDivisionError):
        async with workers.lent(find_account(None)):
            raise ZeroDivisionError
    await until(lambda: not Path(f"/proc/{pid}").exists())
    assert await pid_of(workers) != pid


async def test_one_that_was_killed_is_told_and_replaced(workers: Workers) -> None:
    pid = await pid_of(workers)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerGone):
        await pid_of(workers)
    assert await pid_of(workers) != pid


async def test_no_thread_waits_for_the_end_of_one_which_may_take_long() -> None:
    """A process that waits for a file system that does not answer cannot be killed before that does."""
    free = threading.Event()
    threads = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(threads)
    worker = await WorkerProcess.start(find_account(None))
    busy = threads.submit(free.wait, 60)
    try:
        async with asyncio.timeout(30):
            await worker.end()
        assert not busy.done()
        assert not exists(worker.pid)
    finally:
        free.set()


async def test_idle_ones_end(until: Until) -> None:
    workers = Workers(idle_seconds=0.05)
    pid = await pid_of(workers)
    await until(lambda: not Path(f"/proc/{pid}").exists())
    await workers.stop()


async def test_a_listing_of_long_names_fits_its_frames(workers: Workers, tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["й" * 120] * 8)
    deep.mkdir(parents=True)
    for number in range(250):
        (deep / f"{number}").touch()
    listed = 0
    async with workers.lent(find_account(None)) as worker:
        place = {"anchor": str(tmp_path), "parts": [], "follow": False}
        await worker.ask({"do": "tree", "most_entries": 1000, **place})
        while not (answer := await worker.document()).get("done"):
            listed += len(answer["entries"])
    assert listed == answer["count"] == 258
