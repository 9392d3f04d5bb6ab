import asyncio
import gc

import pytest
import structlog

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
