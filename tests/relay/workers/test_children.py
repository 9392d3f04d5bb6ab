"""What the parent notices of its workers: a stand-in for their program speaks as they do, and starts in no time."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from structlog.testing import capture_logs

from relay.background import Background
from relay.workers.children import REMARK_SECONDS, Children
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import ManualClock
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


say("serving")
while hear() != "drain":
    pass
if sys.argv[1] == "dies":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@asynccontextmanager
async def one_worker(behaviour: str, clock: ManualClock) -> AsyncIterator[Children]:
    serving = asyncio.Event()

    def take(worker: int, kind: str, members: dict[str, Any]) -> None:
        assert (worker, kind) == (1, "serving")
        serving.set()

    children = Children(
        places=1,
        program=(sys.executable, "-I", "-S", "-c", STAND_IN, behaviour),
        first_words=lambda place: {},
        take=take,
        ended=lambda worker, asked_for: None,
        make_backoff=lambda: Backoff(Random(1)),
        clock=clock,
        log=get_logger("test"),
    )
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
