import asyncio
import contextlib
import gc
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog

from tests.support.identities import IdentityKit
from trunkline.runtime.clock import ManualClock
from trunkline.runtime.logs import get_logger
from trunkline.runtime.loop import EventLoopName, run, watch_lag


@pytest.mark.parametrize(
    ("name", "module"), [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio.unix_events")]
)
def test_the_loop_that_is_named_runs(name: EventLoopName, module: str):
    async def main() -> str:
        return type(asyncio.get_running_loop()).__module__

    assert run(main, event_loop=name) == module


@pytest.mark.parametrize("name", ["auto", "uvloop", "asyncio"])
def test_the_clock_of_each_loop_tells_the_time_of_the_moment(name: EventLoopName):
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            assert time.monotonic() <= loop.time() <= time.monotonic()

    run(main, event_loop=name)


@pytest.mark.parametrize("name", ["auto", "uvloop", "asyncio"])
def test_plain_connections_work_on_each_loop(name: EventLoopName):
    async def main() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            return answer

    assert run(main, event_loop=name) == b"hello\n"


@pytest.mark.parametrize(
    ("name", "module"),
    [("auto", "aiofastnet.ssl_transport"), ("uvloop", "uvloop.loop"), ("asyncio", "asyncio.sslproto")],
)
def test_an_accepted_socket_gets_the_transport_of_the_loop(name: EventLoopName, module: str, tmp_path: Path):
    kit = IdentityKit(tmp_path)

    async def main() -> str:
        loop = asyncio.get_running_loop()
        theirs, ours = socket.socketpair()
        context = kit.server_tls().context
        dialling = loop.create_connection(
            asyncio.Protocol, sock=theirs, ssl=kit.client_tls(), server_hostname="localhost"
        )
        accepting = loop.connect_accepted_socket(asyncio.Protocol, ours, ssl=context)
        (client, _), (server, _) = await asyncio.gather(dialling, accepting)
        client.close()
        server.close()
        await asyncio.sleep(0.01)
        return type(server).__module__

    assert run(main, event_loop=name) == module


class Refusing(asyncio.Protocol):
    """Drops every connection as soon as it is there, and says which descriptor it had."""

    def __init__(self, dropped: list[int]) -> None:
        self._dropped = dropped

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._dropped.append(transport.get_extra_info("socket").fileno())
        transport.abort()  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["auto", "uvloop", "asyncio"])
def test_the_number_of_a_connection_that_was_refused_can_be_watched_again(name: EventLoopName):
    async def main() -> set[int]:
        loop = asyncio.get_running_loop()
        dropped: list[int] = []
        server = await loop.create_server(lambda: Refusing(dropped), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        server.close()
        await server.wait_closed()
        pipes = [os.pipe() for _ in range(20)]
        assert {reading for reading, _ in pipes} & set(dropped), "a number is used again"
        told: asyncio.Queue[int] = asyncio.Queue()
        for reading, writing in pipes:
            loop.add_reader(reading, _take_one, reading, told)
            os.write(writing, b"x")
        async with asyncio.timeout(30):
            heard = {await told.get() for _ in pipes}
        for reading, writing in pipes:
            loop.remove_reader(reading)
            os.close(reading)
            os.close(writing)
        return {reading for reading, _ in pipes} - heard

    assert run(main, event_loop=name) == set()


def _take_one(descriptor: int, told: "asyncio.Queue[int]") -> None:
    os.read(descriptor, 1)
    told.put_nowait(descriptor)


@pytest.mark.parametrize("name", ["auto", "asyncio"])
def test_an_exception_that_nobody_awaits_is_one_line(name: EventLoopName):
    async def fail() -> None:
        raise ValueError("nobody looks")

    async def main() -> None:
        task = asyncio.create_task(fail())
        await asyncio.wait([task])
        del task
        gc.collect()

    with structlog.testing.capture_logs() as lines:
        run(main, event_loop=name, log=get_logger("test"))
    (line,) = lines
    assert line["event"] == "event_loop.unhandled_exception"
    assert (line["error"], line["reason"]) == ("ValueError", "nobody looks")
    assert line["message"] == "Task exception was never retrieved"
    assert "test_loop.py:" in line["where"]
    assert "exc_info" not in line


async def test_lag_is_what_passed_beyond_the_interval(monkeypatch):
    clock = ManualClock()
    lags: list[float] = []

    async def late(seconds: float) -> None:
        if len(lags) == 2:
            raise asyncio.CancelledError
        clock.advance(seconds + 0.25)

    monkeypatch.setattr("trunkline.runtime.loop.asyncio.sleep", late)
    with pytest.raises(asyncio.CancelledError):
        await watch_lag(lags.append, clock)
    assert lags == [pytest.approx(0.25)] * 2


COUNT_THREADS = """
import os
from trunkline.runtime.loop import run

async def main():
    print(len(os.listdir("/proc/self/task")))

run(main, event_loop="auto")
"""


def test_the_threads_that_look_up_names_are_there_before_the_first_is():
    counted = subprocess.run([sys.executable, "-c", COUNT_THREADS], capture_output=True, text=True, check=True)
    assert int(counted.stdout) > 1
