"""What the parent notices of its workers: a stand-in for their program speaks as they do, and starts in no time."""

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.background import Background
from relay.workers.children import REMARK_SECONDS, Children
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.daemon import StartError
from trunkline.runtime.logs import get_logger

STAND_IN = """
import json, os, signal, socket, struct, sys

channel = socket.socket(fileno=int(sys.argv[2]))


def say(kind):
    body = json.dumps({"type": kind}).encode()
    channel.sendall(struct.pack("!I", len(body)) + body)


def hear():
    size, = struct.unpack("!I", channel.recv(4, socket.MSG_WAITALL))
    return json.loads(channel.recv(size, socket.MSG_WAITALL))["type"]


if os.path.exists(sys.argv[1]):
    sys.exit(76)
say("serving")
while hear() != "drain":
    pass
if sys.argv[1] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def a_child(
    take: Callable[[int, str, dict[str, Any]], None],
    *,
    program: str = sys.executable,
    places: int = 1,
    behaviour: str = "ends",
    clock: ManualClock | None = None,
) -> Children:
    return Children(
        places=places,
        program=(program, "-I", "-S", "-c", STAND_IN, behaviour),
        first_words=lambda place: {},
        take=take,
        ended=lambda worker, asked_for: None,
        make_backoff=lambda: Backoff(Random(1)),
        clock=clock or ManualClock(),
        log=get_logger("test"),
    )


@asynccontextmanager
async def one_worker(behaviour: str, clock: ManualClock) -> AsyncIterator[Children]:
    serving = asyncio.Event()

    def take(worker: int, kind: str, members: dict[str, Any]) -> None:
        assert (worker, kind) == (1, "serving")
        serving.set()

    children = a_child(take, behaviour=behaviour, clock=clock)
    async with asyncio.timeout(30), Background() as background:
        background.spawn(children.keep(1))
        await serving.wait()
        yield children
        children.ask_to_end()
        await children.all_ended()


async def test_a_worker_that_drains_ends_without_a_word() -> None:
    with capture_logs() as lines:
        async with one_worker("ends", ManualClock()) as children:
            assert children.serving == [1]
    assert lines == []


async def test_a_worker_that_dies_while_it_drains_is_told_of() -> None:
    with capture_logs() as lines:
        async with one_worker("dies", ManualClock()):
            pass
    assert [(line["event"], line["log_level"], line["status"]) for line in lines] == [("worker.ended", "error", -9)]


async def test_a_worker_that_says_nothing_for_a_while_is_remarked() -> None:
    clock = ManualClock()
    async with one_worker("ends", clock) as children:
        assert children.silent == []
        clock.advance(REMARK_SECONDS)
        assert children.silent == [(1, REMARK_SECONDS)]


async def test_a_worker_that_cannot_be_started_at_once_is_started_later(tmp_path: Path) -> None:
    program, elsewhere = tmp_path / "worker", tmp_path / "elsewhere"
    program.symlink_to(sys.executable)
    started: asyncio.Queue[int] = asyncio.Queue()
    told = asyncio.Event()

    def hear(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line["event"] == "worker.not_started":
            told.set()
        return line

    with capture_logs(processors=[hear]):
        children = a_child(lambda worker, kind, members: started.put_nowait(worker), program=str(program))
        async with asyncio.timeout(30), Background() as background:
            background.spawn(children.keep(1))
            await started.get()
            program.rename(elsewhere)
            os.kill(children.pids[-1], signal.SIGKILL)
            await told.wait()
            elsewhere.rename(program)
            await started.get()
            children.ask_to_end()
            await children.all_ended()


async def test_a_relay_without_workers_of_its_own_release_ends(tmp_path: Path) -> None:
    installed = tmp_path / "another-release"
    started: asyncio.Queue[int] = asyncio.Queue()
    told = asyncio.Event()

    def hear(_: object, __: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if line["event"] == "worker.other_release":
            told.set()
        return line

    children = a_child(lambda worker, *_: started.put_nowait(worker), places=2, behaviour=str(installed))

    async def run_until_none_is_left() -> None:
        async with asyncio.timeout(30), Background() as background:
            for place in (1, 2):
                background.spawn(children.keep(place))
            assert {await started.get(), await started.get()} == {1, 2}
            installed.touch()
            os.kill(children.pids[1], signal.SIGKILL)
            await told.wait()
            os.kill(children._children[children.serving[0]].running.pid, signal.SIGKILL)
            await asyncio.Event().wait()

    with capture_logs(processors=[hear]), pytest.raises(ExceptionGroup) as ended:
        await run_until_none_is_left()
    [error] = ended.value.exceptions
    assert isinstance(error, StartError)
    assert (error.exit_code, "start it again" in str(error)) == (75, True)
    for child in children._children.values():  # one more that was being started meanwhile, and ends by itself
        await child.running.wait()


async def test_workers_that_cannot_be_linked_for_want_of_descriptors_are_linked_later() -> None:
    started: asyncio.Queue[int] = asyncio.Queue()
    children = a_child(lambda worker, kind, members: started.put_nowait(worker), places=2)
    async with asyncio.timeout(30), Background() as background:
        for place in (1, 2):
            background.spawn(children.keep(place))
        assert {await started.get(), await started.get()} == {1, 2}
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with capture_logs() as lines:
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
            try:
                children._link_pair((1, 2))
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, most)
        assert [line["event"] for line in lines] == ["workers.not_linked"]
        assert children._to_link == {(1, 2)}
        children.ask_to_end()
        await children.all_ended()


async def test_a_worker_that_is_given_up_while_it_starts_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    starting = asyncio.Event()

    async def connect(*_: object, **__: object) -> None:
        starting.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "create_unix_connection", connect)
    keeping = asyncio.create_task(a_child(lambda *_: None).keep(1))
    await starting.wait()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


async def test_the_first_worker_that_cannot_be_started_is_told() -> None:
    children = a_child(lambda *_: None, program="/nowhere/worker")
    with pytest.raises(StartError, match="worker 1 cannot be started"):
        await children.keep(1)
