import asyncio
import json
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge

from trunkline.runtime import admin
from trunkline.runtime.admin import AdminServer
from trunkline.runtime.daemon import EXIT_UNAVAILABLE, StartError
from trunkline.runtime.lifecycle import Lifecycle
from trunkline.runtime.logs import get_logger
from trunkline.runtime.systemd import ServiceNotifier


@pytest.fixture
def lifecycle(tmp_path) -> Lifecycle:
    return Lifecycle(state_directory=tmp_path, notifier=ServiceNotifier(None, None), log=get_logger("test"))


@pytest.fixture
async def server(lifecycle: Lifecycle) -> AsyncIterator[AdminServer]:
    metrics = CollectorRegistry()
    Counter("trunkline_test_calls", "Calls.", registry=metrics).inc(3)
    async with AdminServer("127.0.0.1", 0, metrics=metrics, lifecycle=lifecycle) as running:
        yield running


async def get(url: str, accept: str = "*/*") -> tuple[int, str, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"Accept": accept}) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_alive_is_not_ready(server: AdminServer, lifecycle: Lifecycle):
    condition = lifecycle.condition("trust document")
    assert (await get(f"{server.url}/healthz"))[0] == 200
    assert (await get(f"{server.url}/readyz"))[0] == 503
    lifecycle.started()
    condition.met()
    assert (await get(f"{server.url}/readyz"))[0] == 200
    lifecycle.request_drain()
    assert (await get(f"{server.url}/readyz"))[0] == 503
    status, _, text = await get(f"{server.url}/readyz?verbose")
    assert (status, text) == (503, '{"ready": false, "draining": true, "unmet": {}}\n')


async def test_remarks_are_for_whoever_asks_for_details(server: AdminServer, lifecycle: Lifecycle):
    lifecycle.started()
    lifecycle.remark("nothing", lambda: None)
    lifecycle.remark("connections", lambda: "as many as may be")
    status, _, text = await get(f"{server.url}/readyz?verbose")
    assert (status, json.loads(text)["remarks"]) == (200, {"connections": "as many as may be"})


async def test_metrics_in_the_form_that_is_asked_for(server: AdminServer):
    status, content_type, text = await get(f"{server.url}/metrics")
    assert status == 200
    assert content_type.startswith("text/plain")
    assert "trunkline_test_calls_total 3.0" in text
    _, content_type, text = await get(f"{server.url}/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_an_address_that_is_taken_is_told_with_what_to_change(server: AdminServer, lifecycle: Lifecycle):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(StartError, match=rf"127\.0\.0\.1:{port}: Address already in use; change \[admin\]") as refused:
        await AdminServer("127.0.0.1", port, metrics=CollectorRegistry(), lifecycle=lifecycle).__aenter__()
    assert refused.value.exit_code == EXIT_UNAVAILABLE


async def test_a_daemon_that_need_not_have_it_waits_for_an_address_that_is_taken(
    monkeypatch, server: AdminServer, lifecycle: Lifecycle
):
    monkeypatch.setattr(admin, "RETRY_SECONDS", 0.001)
    taken = socket.create_server(("127.0.0.1", 0))
    port = taken.getsockname()[1]
    waiting = AdminServer(
        "127.0.0.1", port, metrics=CollectorRegistry(), lifecycle=lifecycle, waiting=get_logger("test")
    )
    async with waiting:
        assert waiting.url == f"http://127.0.0.1:{port}"
        taken.close()
        async with asyncio.timeout(30):
            while not await answers(waiting.url):
                pass


async def test_one_that_waits_in_vain_ends_all_the_same(server: AdminServer, lifecycle: Lifecycle):
    port = int(server.url.rpartition(":")[2])
    waiting = AdminServer(
        "127.0.0.1", port, metrics=CollectorRegistry(), lifecycle=lifecycle, waiting=get_logger("test")
    )
    async with waiting:
        assert waiting.url == server.url
    assert (await get(f"{server.url}/healthz"))[0] == 200


async def answers(url: str) -> bool:
    try:
        return (await get(f"{url}/healthz"))[0] == 200
    except aiohttp.ClientConnectionError:
        return False


async def test_only_loopback():
    with pytest.raises(ValueError, match="loopback"):
        AdminServer("0.0.0.0", 0, metrics=CollectorRegistry(), lifecycle=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff" * 100, b"GET / HTTP/0.9\r\n\r\n", b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n"]
)
async def test_garbage_is_answered_and_closed(server: AdminServer, garbage: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    writer.write(garbage)
    answer = await reader.read()
    assert answer == b"" or answer.split(b" ")[1].startswith(b"4")
    writer.close()
    await writer.wait_closed()


async def test_a_peer_that_dawdles_is_cut_off(monkeypatch, lifecycle: Lifecycle):
    monkeypatch.setattr(admin, "CONNECTION_SECONDS", 0.01)
    async with AdminServer("127.0.0.1", 0, metrics=CollectorRegistry(), lifecycle=lifecycle) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
        writer.write(b"GET /healthz HTTP/1.1\r\n")
        assert await ended(reader)
        writer.close()


async def test_connections_over_the_bound_are_dropped(monkeypatch, server: AdminServer):
    monkeypatch.setattr(admin, "MAX_CONNECTIONS", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))
    assert await ended(reader)
    writer.close()


async def test_a_peer_that_takes_nothing_of_its_answer_does_not_hold_up_the_end(monkeypatch, lifecycle: Lifecycle):
    monkeypatch.setattr(admin, "LAST_SECONDS", 0.1)
    metrics = CollectorRegistry()
    gauge = Gauge("trunkline_test_sizes", "Sizes.", ["name"], registry=metrics)
    for number in range(100):
        gauge.labels(f"{number:0100000}").set(1)
    server = AdminServer("127.0.0.1", 0, metrics=metrics, lifecycle=lifecycle)
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), limit=1)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readexactly(1)
        ending = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - ending < 30
    writer.transport.abort()
