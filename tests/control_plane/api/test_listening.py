"""The listening socket: TLS, slow and hostile clients, bounds; and no traceback for anything a client can send."""

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from certs.identities import Identity
from control_plane.api import requests
from control_plane.api.listening import GOODBYE_SECONDS, ApiListener, connections_within
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import LimitSettings, ListenSettings
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.identities import IdentityKit
from tests.support.links import until
from trunkline.channel.unsent import untaken_bytes
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.loop import loop_factory

HEAD = b"GET /api/2.0/accounts HTTP/1.1\r\nHost: localhost\r\n"


async def open_connection(
    plane: RunningControlPlane, identity: Identity | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(
        "localhost", plane.control_plane.listener.port, ssl=plane.client_tls(identity), server_hostname="localhost"
    )


async def close(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00" * 100,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / ICE/1.0\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET /api/2.0/accounts HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST /api/2.0/bootstrap HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        HEAD + b"".join(b"X%d: y\r\n" % n for n in range(500)) + b"\r\n",
        b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        HEAD + b"Authorization: Bearer \x80\xff\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
async def test_garbage_is_answered_or_dropped_without_a_traceback(
    plane: RunningControlPlane, raw: bytes, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    reader, writer = await open_connection(plane)
    writer.write(raw)
    writer.write(b"\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read(65536)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 400 ", b"HTTP/0.9 400 ")), answer[:100]
    await close(writer)
    assert "Traceback" not in caplog.text
    assert await plane.ok("GET", "/api/2.0/accounts")


async def test_a_client_that_never_finishes_its_head_is_dropped(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"idle_seconds": 1.0})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        for beginning in (b"", HEAD):
            reader, writer = await open_connection(plane)
            writer.write(beginning)
            async with asyncio.timeout(8):
                assert await reader.read() == b""
            await close(writer)


async def test_a_body_that_never_comes_is_a_408(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    reader, writer = await open_connection(plane)
    writer.write(b"POST /api/2.0/bootstrap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
    async with asyncio.timeout(8):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"REQUEST_TIMEOUT"' in answer
    await close(writer)


async def test_a_body_that_is_too_large_is_a_413(plane: RunningControlPlane):
    answer = await plane.call("POST", "/api/2.0/bootstrap", raw=b" " * 200_000, token=None)
    assert (answer.status, answer.error_code) == (413, "REQUEST_TOO_LARGE")
    answer = await plane.call("POST", f"{plane.account}/workspaces", raw=b" " * 1_100_000)
    assert (answer.status, answer.error_code) == (413, "REQUEST_TOO_LARGE")


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"nul", b'{"workspace":"\\ud800"}', b"[" * 100_000, b'{"a":1e999}'])
async def test_bodies_that_are_no_json(plane: RunningControlPlane, raw: bytes):
    answer = await plane.call("POST", f"{plane.account}/workspaces", raw=raw)
    assert (answer.status, answer.error_code) in [(400, "MALFORMED_REQUEST"), (400, "INVALID_PARAMETER_VALUE")]


async def test_a_form_is_not_json(plane: RunningControlPlane):
    headers = {"Authorization": f"Bearer {plane.operator_token}"}
    url = f"{plane.url}{plane.account}/workspaces"
    async with plane.session().post(url, data={"workspace": "x"}, headers=headers) as response:
        assert response.status == 400
        assert (await response.json())["error_code"] == "MALFORMED_REQUEST"


async def test_a_client_that_does_not_read_is_dropped(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"write_stall_seconds": 1.0})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        for number in range(40):
            await plane.workspace(f"{'w' * 50}-{number}")
        reader, writer = await open_connection(plane)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        path = f"{plane.account}/workspaces?page_size=1000"
        asked = f"GET {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {plane.operator_token}\r\n\r\n"
        try:
            async with asyncio.timeout(20):
                while not writer.transport.is_closing():
                    writer.write(asked.encode() * 20)
                    await asyncio.sleep(0.02)
                    if plane.control_plane.listener._stalls == {} and _dropped(plane):
                        break
        finally:
            await close(writer)
        assert _dropped(plane)


ANSWER_BYTES = 4_000_000


async def _answer(request: web.Request) -> web.Response:
    return web.Response(body=b"x" * ANSWER_BYTES)


def on_the_fast_loop(test: Callable[[ApiListener, IdentityKit], Awaitable[None]]) -> Callable[[Path], None]:
    """Runs a test on the loop that daemons run on, with a listener that answers all with megabytes."""

    async def run(directory: Path) -> None:
        app = web.Application()
        app.router.add_get("/", _answer)
        kit = IdentityKit(directory)
        listener = ApiListener(
            app,
            listen=ListenSettings(address="127.0.0.1", port=0),
            limits=LimitSettings(),
            tls=kit.server_tls(),
            metrics=ControlPlaneMetrics(CollectorRegistry()),
            clock=SystemClock(),
        )
        async with listener:
            await test(listener, kit)

    def wrapper(tmp_path: Path) -> None:
        with asyncio.Runner(loop_factory=loop_factory("auto")) as runner:
            runner.run(run(tmp_path))

    wrapper.__name__ = test.__name__
    return wrapper


def _ask(listener: ApiListener, kit: IdentityKit) -> ssl.SSLSocket:
    connection = socket.create_connection(("127.0.0.1", listener.port))
    asking = kit.client_tls().wrap_socket(connection, server_hostname="localhost", suppress_ragged_eofs=False)
    asking.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    return asking


async def _swept(listener: ApiListener, seconds: int) -> None:
    """As many sweeps as there are in so long."""
    now = time.monotonic()
    for second in range(seconds):
        listener._sweep_once(now + second)
        await asyncio.sleep(0)


@on_the_fast_loop
async def test_a_client_that_reads_slowly_gets_the_end_of_its_last_answer(listener: ApiListener, kit: IdentityKit):
    asking = await asyncio.to_thread(_ask, listener, kit)
    received_bytes = 0
    while not (transport := _only_transport(listener)) or not transport.is_closing():
        received_bytes += len(await asyncio.to_thread(asking.recv, 65_536))
    assert untaken_bytes(transport)
    await _swept(listener, round(LimitSettings().write_stall_seconds))
    await asyncio.sleep(1.1 * GOODBYE_SECONDS)
    while piece := await asyncio.to_thread(asking.recv, 65_536):
        received_bytes += len(piece)
    asking.close()
    assert received_bytes > ANSWER_BYTES


@on_the_fast_loop
async def test_a_client_that_does_not_say_goodbye_is_not_waited_for(listener: ApiListener, kit: IdentityKit):
    asking = await asyncio.to_thread(_ask, listener, kit)
    while await asyncio.to_thread(asking.recv, 65_536):
        pass
    await until(lambda: (transport := _only_transport(listener)) is not None and not untaken_bytes(transport))
    await _swept(listener, round(GOODBYE_SECONDS) + 1)
    await until(lambda: _only_transport(listener) is None)
    asking.close()


def _only_transport(listener: ApiListener) -> asyncio.Transport | None:
    server = listener._runner.server
    assert server is not None
    return server.connections[0].transport if server.connections else None


def _dropped(plane: RunningControlPlane) -> bool:
    name, labels = "trunkline_control_plane_connections_closed_total", {"reason": "write_stall"}
    return bool(plane.foundation.registry.get_sample_value(name, labels))


@on_the_fast_loop
async def test_connections_are_bounded(listener: ApiListener, kit: IdentityKit):
    listener._most_connections = 4
    opened = [await asyncio.to_thread(_ask, listener, kit) for _ in range(4)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await asyncio.to_thread(_ask, listener, kit)
    for one in opened:
        one.close()
    await until(lambda: _only_transport(listener) is None)


@on_the_fast_loop
async def test_connections_that_set_up_no_tls_count_until_they_are_gone(listener: ApiListener, kit: IdentityKit):
    listener._most_connections = 16
    silent = [socket.create_connection(("127.0.0.1", listener.port)) for _ in range(16)]
    await until(lambda: len(listener._arriving) == 16)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await asyncio.to_thread(_ask, listener, kit)
    silent.pop().close()
    await until(lambda: len(listener._arriving) == 15)
    asking = await asyncio.to_thread(_ask, listener, kit)
    assert await asyncio.to_thread(asking.recv, 9) == b"HTTP/1.1 "
    for connection in [asking, *silent]:
        connection.close()
    await until(lambda: not listener._arriving and _only_transport(listener) is None)


def test_there_are_no_more_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert connections_within(4096) == 768
    assert connections_within(768) == 768
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    assert connections_within(4096) == 32


async def test_a_client_certificate_of_another_authority_is_refused(plane: RunningControlPlane, tmp_path: Path):
    foreign = IdentityKit(tmp_path).issue_node()

    async def call() -> None:
        reader, writer = await open_connection(plane, foreign)
        writer.write(HEAD + b"\r\n")
        await reader.readexactly(1)

    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(call(), 5)


async def test_a_new_certificate_is_served_without_dropping_anybody(plane: RunningControlPlane):
    reader, writer = await open_connection(plane)
    before = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    await plane.control_plane.identities.own.renew()
    other_reader, other_writer = await open_connection(plane)
    assert other_writer.get_extra_info("ssl_object").getpeercert(binary_form=True) != before
    writer.write(HEAD + b"Connection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
    await close(writer)
    await close(other_writer)
    del other_reader


async def test_a_full_disk_is_a_507_and_nothing_is_half_made(plane: RunningControlPlane):
    await plane.workspace("before")
    async with plane.database.engine.connect() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    answers = [
        await plane.call("POST", f"{plane.account}/workspaces", {"workspace": f"{'w' * 50}-{number}"})
        for number in range(60)
    ]
    refused = [answer for answer in answers if answer.status != 201]
    assert refused
    assert {(answer.status, answer.error_code) for answer in refused} == {(507, "INSUFFICIENT_STORAGE")}
    made = (await plane.ok("GET", f"{plane.account}/workspaces?page_size=1000"))["workspaces"]
    assert len(made) == 1 + sum(answer.status == 201 for answer in answers)
