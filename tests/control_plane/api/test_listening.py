"""The listening socket: TLS, slow and hostile clients, bounds; and no traceback for anything a client can send."""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from certs.identities import Identity
from control_plane.api import listening, requests
from control_plane.api.listening import ApiListener
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import LimitSettings, ListenSettings
from tests.support.control_planes import RunningControlPlane, running_control_plane, settings_for
from tests.support.identities import WORKSPACE_ID, IdentityKit
from tests.support.links import until
from trunkline.channel.unsent import unsent_bytes, untaken_bytes
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.loop import EventLoopName, loop_factory
from trunkline.runtime.peer_faults import PeerFaults

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
    with caplog.filtering(PeerFaults()):  # as the log that a daemon writes
        reader, writer = await open_connection(plane)
        writer.write(raw)
        writer.write(b"\r\n\r\n")
        async with asyncio.timeout(30):
            answer = await reader.read(65536)
        await close(writer)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.0 400 ", b"HTTP/0.9 400 ")), answer[:100]
    assert "Traceback" not in caplog.text
    assert await plane.ok("GET", "/api/2.0/accounts")


async def test_a_client_that_never_finishes_its_head_is_dropped(tmp_path: Path):
    settings = settings_for(tmp_path, limits={"idle_seconds": 1.0})
    async with running_control_plane(tmp_path, settings=settings) as plane:
        for beginning in (b"", HEAD):
            reader, writer = await open_connection(plane)
            writer.write(beginning)
            async with asyncio.timeout(30):
                assert await reader.read() == b""
            await close(writer)


async def test_a_body_that_never_comes_is_a_408(plane: RunningControlPlane, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(requests, "BODY_SECONDS", 0.3)
    reader, writer = await open_connection(plane)
    writer.write(b"POST /api/2.0/bootstrap HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{")
    async with asyncio.timeout(30):
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


GOODBYE_SECONDS = 0.1
RECEIVE_BYTES = 64 * 1024
PIECE_BYTES = 4096


@pytest.fixture(autouse=True)
def short_goodbyes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOODBYE_SECONDS", "LAST_GOODBYE_SECONDS"):
        monkeypatch.setattr(listening, name, GOODBYE_SECONDS)


class Listening:
    """A listener without a control plane, and a client that reads when it is told to."""

    def __init__(self, directory: Path) -> None:
        self._kit = IdentityKit(directory)
        self.sent_bytes = 0
        self.begun = asyncio.Event()
        app = web.Application()
        app.router.add_get("/full", self._answer_until_full)
        app.router.add_get("/never", self._never_answer)
        self.listener = ApiListener(
            app,
            listen=ListenSettings(address="127.0.0.1", port=0),
            limits=LimitSettings(),
            tls=self._kit.server_tls(),
            metrics=ControlPlaneMetrics(CollectorRegistry()),
            clock=SystemClock(),
        )

    async def _answer_until_full(self, request: web.Request) -> web.StreamResponse:
        """Answer until the kernel takes no more, and the transport holds the end."""
        response = web.StreamResponse()
        response.force_close()
        await response.prepare(request)
        assert request.transport is not None
        while not unsent_bytes(request.transport):
            await response.write(b"x" * PIECE_BYTES)
            self.sent_bytes += PIECE_BYTES
        return response

    async def _never_answer(self, request: web.Request) -> web.StreamResponse:
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    @property
    def transports(self) -> list[asyncio.Transport]:
        return self.listener._connections.transports

    async def asking(self, path: str, address: str = "127.0.0.1", *, identity: Identity | None = None) -> ssl.SSLSocket:
        return await asyncio.to_thread(self._ask, path, address, identity)

    def _ask(self, path: str, address: str, identity: Identity | None) -> ssl.SSLSocket:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        connection.bind((address, 0))
        connection.connect(("127.0.0.1", self.listener.port))
        asking = self._kit.client_tls(identity).wrap_socket(
            connection, server_hostname="localhost", suppress_ragged_eofs=False
        )
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        return asking

    async def reads_all(self, asking: ssl.SSLSocket) -> None:
        """What was sent comes, and its end."""
        received = await asyncio.to_thread(self._read_all, asking)
        assert received.count(b"x") == self.sent_bytes

    def _read_all(self, asking: ssl.SSLSocket) -> bytes:
        return b"".join(iter(lambda: asking.recv(65_536), b""))

    async def until_closing(self) -> None:
        await until(lambda: bool(self.transports) and self.transports[0].is_closing())
        assert untaken_bytes(self.transports[0])


def on_loops(
    test: Callable[[Listening], Awaitable[None]], names: Iterable[EventLoopName]
) -> Callable[[EventLoopName, Path], None]:
    """Runs a test on each of these loops."""

    @pytest.mark.parametrize("loop_name", names)
    def wrapper(loop_name: EventLoopName, tmp_path: Path) -> None:
        async def run() -> None:
            listening = Listening(tmp_path)
            async with listening.listener:
                await test(listening)

        with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
            runner.run(run())

    wrapper.__name__ = test.__name__
    return wrapper


def on_each_loop(test: Callable[[Listening], Awaitable[None]]) -> Callable[[EventLoopName, Path], None]:
    """Runs a test on every loop that a daemon may run on."""
    return on_loops(test, ["auto", "uvloop", "asyncio"])


def on_the_fast_loop(test: Callable[[Listening], Awaitable[None]]) -> Callable[[EventLoopName, Path], None]:
    """Runs a test on the loop that daemons run on."""
    return on_loops(test, ["auto"])


@on_each_loop
async def test_a_client_that_reads_slowly_gets_the_end_of_its_last_answer(listening: Listening):
    with await listening.asking("/full") as asking:
        await listening.until_closing()
        listening.listener._sweep_once(time.monotonic())
        await asyncio.sleep(3 * GOODBYE_SECONDS)
        await listening.reads_all(asking)


@on_each_loop
async def test_a_client_that_does_not_say_goodbye_is_not_waited_for(listening: Listening):
    with await listening.asking("/full") as asking:
        await listening.until_closing()
        await listening.reads_all(asking)
        listening.listener._sweep_once(time.monotonic())
        await until(lambda: not listening.transports)


@on_each_loop
async def test_the_end_waits_until_a_client_that_reads_slowly_has_its_answer(listening: Listening):
    with await listening.asking("/full") as asking:
        await until(lambda: bool(listening.transports) and untaken_bytes(listening.transports[0]) > RECEIVE_BYTES)
        draining = asyncio.ensure_future(listening.listener.drain())
        await listening.until_closing()
        await asyncio.sleep(3 * GOODBYE_SECONDS)
        assert not draining.done()
        await listening.reads_all(asking)
        async with asyncio.timeout(30):
            await draining


@on_each_loop
async def test_the_end_does_not_wait_for_goodbyes(listening: Listening):
    with await listening.asking("/full") as asking:
        await listening.until_closing()
        await listening.reads_all(asking)
        async with asyncio.timeout(30):
            await listening.listener.drain()
        assert not listening.transports


@pytest.mark.parametrize("path", ["/full", "/never"])
def test_nobody_holds_up_the_end_for_longer_than_it_may_take(path: str, tmp_path: Path):
    @on_the_fast_loop
    async def test(listening: Listening) -> None:
        with await listening.asking(path):
            await (listening.until_closing() if path == "/full" else listening.begun.wait())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await listening.listener.drain()
            async with asyncio.timeout(30):
                await listening.listener.__aexit__(None, None, None)
                await until(lambda: not listening.transports)

    test("auto", tmp_path)


@on_each_loop
async def test_who_sets_up_tls_while_the_control_plane_ends_is_sent_away(listening: Listening):
    with socket.create_connection(("127.0.0.1", listening.listener.port)) as connection:
        await listening.listener.drain()
        asking = await asyncio.to_thread(
            listening._kit.client_tls().wrap_socket, connection, server_hostname="localhost"
        )
        with asking, contextlib.suppress(ConnectionResetError):
            assert await asyncio.to_thread(asking.recv, 1) == b""


def _dropped(plane: RunningControlPlane) -> bool:
    name, labels = "trunkline_control_plane_connections_closed_total", {"reason": "write_stall"}
    return bool(plane.foundation.registry.get_sample_value(name, labels))


def bound(listening: Listening, **bounds: int) -> None:
    arrivals = listening.listener._arrivals
    arrivals._bounds = replace(arrivals._bounds, **bounds)


@on_the_fast_loop
async def test_connections_are_bounded(listening: Listening):
    bound(listening, most=4, most_per_address=4)
    opened = [await listening.asking("/never") for _ in range(4)]
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await listening.asking("/never")
    for one in opened:
        one.close()
    await until(lambda: not listening.transports)


@on_the_fast_loop
async def test_connections_that_set_up_no_tls_count_until_they_are_gone(listening: Listening):
    bound(listening, most=16, most_per_address=16)
    silent = [socket.create_connection(("127.0.0.1", listening.listener.port)) for _ in range(16)]
    await until(lambda: len(listening.listener._arrivals) == 16)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await listening.asking("/never")
    silent.pop().close()
    await until(lambda: len(listening.listener._arrivals) == 15)
    asking = await listening.asking("/full")
    assert await asyncio.to_thread(asking.recv, 9) == b"HTTP/1.1 "
    for connection in [asking, *silent]:
        connection.close()
    await until(lambda: not listening.listener._arrivals and not listening.transports)


def connected_from(address: str, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), source_address=(address, 0))


@asynccontextmanager
async def silent(listening: Listening, *addresses: str, each: int) -> AsyncIterator[None]:
    """So many connections from each of these addresses, on which nothing is said; behind the block none is counted."""
    port = listening.listener.port
    connections = [connected_from(address, port) for address in addresses for _ in range(each)]
    yield
    for connection in connections:
        connection.close()
    await until(lambda: not listening.listener._arrivals._counts)


@on_each_loop
async def test_one_address_that_shows_nothing_keeps_no_other_out(listening: Listening):
    arrivals = listening.listener._arrivals
    bound(listening, most_per_address=4)
    async with silent(listening, "127.0.0.1", each=4):
        await until(lambda: len(arrivals) == 4)
        with connected_from("127.0.0.1", listening.listener.port) as fifth:
            assert await asyncio.to_thread(fifth.recv, 1) == b""
        with await listening.asking("/full", "127.0.0.2") as asking:
            assert await asyncio.to_thread(asking.recv, 9) == b"HTTP/1.1 "


@on_the_fast_loop
async def test_a_handful_of_addresses_leave_room_for_those_that_have_none(listening: Listening):
    arrivals = listening.listener._arrivals
    bound(listening, most=32, most_per_address=31)
    hosts = [f"127.0.0.{number}" for number in (1, 2, 3, 4)]
    async with silent(listening, *hosts, each=32):
        with await listening.asking("/full", "127.0.0.5") as asking:
            assert await asyncio.to_thread(asking.recv, 9) == b"HTTP/1.1 "
            assert [arrivals._counts[host] for host in hosts] == [17, 8, 4, 2]


@on_the_fast_loop
async def test_an_address_that_may_have_all_is_everybodys(listening: Listening):
    arrivals = listening.listener._arrivals
    bound(listening, most=8, most_per_address=8)
    async with silent(listening, "127.0.0.1", each=8):
        await until(lambda: len(arrivals) == 8)


@on_the_fast_loop
async def test_nodes_leave_room_for_others_and_relays_have_what_they_need(listening: Listening):
    arrivals, kit = listening.listener._arrivals, listening._kit
    bound(listening, most=44)
    nodes = ["nd-one", "nd-two"]
    identities = [kit.issue_node(node=node) for node in nodes]
    held = [await listening.asking("/never", identity=identity) for identity in identities for _ in range(4)]
    await until(lambda: not len(arrivals))
    counts = [arrivals._counts[kit.node_spiffe_id(WORKSPACE_ID, node)] for node in nodes]
    assert counts == [3, 3]
    relay = kit.issue_relay()
    held += [await listening.asking("/never", identity=relay) for _ in range(4)]
    await until(lambda: len(listening.transports) == 10)
    for connection in held:
        connection.close()
    await until(lambda: not arrivals._counts and not listening.transports)


@on_each_loop
async def test_the_last_connection_that_there_may_be_is_a_nodes_as_well(listening: Listening):
    bound(listening, most=3)
    held = [await listening.asking("/never", address) for address in ("127.0.0.1", "127.0.0.2")]
    held.append(await listening.asking("/full", identity=listening._kit.issue_node()))
    assert await asyncio.to_thread(held[-1].recv, 9) == b"HTTP/1.1 "
    for connection in held:
        connection.close()
    await until(lambda: not listening.listener._arrivals._counts and not listening.transports)


@on_the_fast_loop
async def test_of_an_address_those_that_show_a_certificate_do_not_count(listening: Listening):
    arrivals = listening.listener._arrivals
    bound(listening, most_per_address=4)
    shown = [await listening.asking("/never", identity=listening._kit.issue_node()) for _ in range(6)]
    await until(lambda: len(listening.transports) == 6)
    assert arrivals._counts.total() == arrivals._counts[listening._kit.node_spiffe_id()] == 6
    hidden = [await listening.asking("/never") for _ in range(4)]
    await until(lambda: len(listening.transports) == 10)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await listening.asking("/never")
    for connection in [*shown, *hidden]:
        connection.close()
    await until(lambda: not arrivals._counts and not listening.transports)


@on_each_loop
async def test_one_identity_keeps_no_other_out_however_often_it_renews(listening: Listening):
    arrivals = listening.listener._arrivals
    bound(listening, most_per_identity=4)
    held = [await listening.asking("/never", identity=listening._kit.issue_node()) for _ in range(4)]
    await until(lambda: len(listening.transports) == 4)
    fifth = await listening.asking("/full", identity=listening._kit.issue_node())
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):  # which one depends on what has come already
        assert await asyncio.to_thread(fifth.recv, 1) == b""
    others = [await listening.asking("/full", identity=listening._kit.issue_node(node="nd-two"))]
    others.append(await listening.asking("/full"))
    for asking in others:
        assert await asyncio.to_thread(asking.recv, 9) == b"HTTP/1.1 "
    for connection in [fifth, *held, *others]:
        connection.close()
    await until(lambda: not arrivals._counts and not listening.transports)


async def test_a_client_certificate_of_another_authority_is_refused(plane: RunningControlPlane, tmp_path: Path):
    foreign = IdentityKit(tmp_path).issue_node()

    async def call() -> None:
        reader, writer = await open_connection(plane, foreign)
        with contextlib.closing(writer):
            writer.write(HEAD + b"\r\n")
            await reader.readexactly(1)

    with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(call(), 30)


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
