"""The local proxy over a real loopback connection: what it refuses by itself, and answers of nodes that break off."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from typing import Any, cast

import pytest

from certs.tls import client_context
from tests.support.canned_relay import Answering, CannedCall, CannedRelay
from trunkline.cli import local_proxy
from trunkline.cli.joining import break_off
from trunkline.cli.local_proxy import LocalProxy
from trunkline.client.control_plane import ControlPlane
from trunkline.client.errors import CallInterrupted
from trunkline.client.node_response import NodeResponse
from trunkline.client.node_sender import NodeSender


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with ControlPlane("https://control-plane.test", "t", ssl_context=client_context()) as control_plane:
        proxy = LocalProxy(control_plane, "main", "trunk.internal")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await proxy.serve(reader, writer)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()


async def ask(port: int, request: bytes) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read(-1)
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["message"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("example.com", 403),
        ("vm-1.other.trunk.internal", 403),
        ("main.trunk.internal", 403),
        (".main.trunk.internal", 400),
        ("a.vm-1.main.trunk.internal", 403),
        ("vm-1.main.trunk.internal.example.com", 403),
        ("127.0.0.1", 403),
        ("169.254.169.254", 403),
    ],
)
@pytest.mark.parametrize(
    "form", ["GET http://{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", "CONNECT {}:80 HTTP/1.1\r\nHost: {}:80\r\n\r\n"]
)
async def test_only_nodes_of_the_workspace_are_reached(port: int, form: str, host: str, status: int) -> None:
    assert (await ask(port, form.format(host, host).encode()))[0] == status


async def test_a_web_page_that_rebinds_its_name_gets_nowhere(port: int) -> None:
    status, message = await ask(port, b"GET / HTTP/1.1\r\nHost: vm-1.main.trunk.internal\r\n\r\n")
    assert status == 400
    assert "this is a proxy" in message


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize(
    "mark",
    [b"Sec-Fetch-Site: cross-site", b"Sec-Fetch-Site: same-site", b"Origin: https://evil.example", b"Origin: null"],
)
async def test_another_sites_requests_are_refused(port: int, mark: bytes, method: bytes) -> None:
    target = b"http://vm-1.main.trunk.internal:8080/stages/kill"
    request = b"%b %b HTTP/1.1\r\nHost: vm-1.main.trunk.internal:8080\r\n%b\r\n\r\n" % (method, target, mark)
    assert (await ask(port, request))[0] == 403


LINE, HOST = b"GET http://vm-1.main.trunk.internal/ HTTP/1.1\r\n", b"Host: vm-1.main.trunk.internal\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (LINE + b"Host: other\r\n\r\n", 400),
        (LINE.replace(b"/1.1", b"/2.0") + HOST + b"\r\n", 505),
        (LINE + HOST + b"X: y\r\n" * 9000, 431),
        (LINE + HOST + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", 501),
    ],
)
async def test_heads_are_read_strictly(port: int, request_bytes: bytes, status: int) -> None:
    assert (await ask(port, request_bytes))[0] == status


class OneNode:
    """A control plane all of whose nodes are behind one sender."""

    def __init__(self, sender: NodeSender) -> None:
        self._sender = sender

    def node(self, workspace: str, name: str) -> OneNode:
        return self

    async def request(self, method: str, path: str, *, port: int, **what: Any) -> NodeResponse:
        return await self._sender.request(method, "vm-1.main.trunk.internal", path, token="t", **what)

    async def open_connection(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await self._sender.open_connection("vm-1.main.trunk.internal", port, token="t")


def proxy_to(answer: bytes) -> AbstractAsyncContextManager[tuple[int, asyncio.Future[None]]]:
    """A proxy to a node that answers so and breaks off."""

    async def answering(call: CannedCall) -> None:
        call.answer(answer)
        await call.writer.drain()
        call.reset()

    return proxy_before(answering)


@asynccontextmanager
async def proxy_before(answering: Answering) -> AsyncIterator[tuple[int, asyncio.Future[None]]]:
    """A proxy to a node that answers so; gives its port, and how serving the connection ended."""
    relay = CannedRelay(answering)
    sender = NodeSender("https://relay.test", ssl_context=client_context(), dial=relay.dial)
    proxy = LocalProxy(cast(ControlPlane, OneNode(sender)), "main", "trunk.internal")
    served: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with closing(writer):
            await proxy.serve(reader, writer)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asyncio.ensure_future(serve(reader, writer)).add_done_callback(
            lambda task: served.set_exception(error) if (error := task.exception()) else served.set_result(None)
        )

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], served
    await sender.close()
    await relay.close()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("framing", [b"Content-Length: 100\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_an_answer_that_breaks_off_is_never_taken_for_a_whole_one(version: str, framing: bytes) -> None:
    part = b"4\r\npart\r\n" if b"chunked" in framing else b"part"
    async with proxy_to(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + part) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LINE.replace(b"1.1", version.encode()) + HOST + b"\r\n")
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            await read_into(received, reader)
        with pytest.raises(CallInterrupted):
            await served
        assert received.count(b"HTTP/1.") <= 1, "no second head inside the first answer"
        writer.close()


async def read_into(received: bytearray, reader: asyncio.StreamReader) -> None:
    while piece := await reader.read(4096):
        received += piece


async def test_bytes_that_come_with_a_connect_are_the_first_of_the_tunnel() -> None:
    async def echoing(call: CannedCall) -> None:
        call.answer(b"HTTP/1.1 200 OK\r\n\r\n")
        call.answer(await call.reader.read(-1))
        call.writer.close()

    async with proxy_before(echoing) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"CONNECT vm-1.main.trunk.internal:22 HTTP/1.1\r\n" + HOST + b"\r\nearly, ")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
        writer.write(b"and late")
        writer.write_eof()
        assert await reader.read(-1) == b"early, and late"
        await served
        writer.close()


async def test_an_upgrade_to_http_2_is_ignored() -> None:
    async def answering(call: CannedCall) -> None:
        named = [name for name, _ in call.head.fields if name.lower() in (b"upgrade", b"http2-settings")]
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d" % len(named))

    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    async with proxy_before(answering) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LINE + HOST + upgrade + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(1) == b"0"
        await served
        writer.close()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 6\r\n\r\nabcdef", b"Transfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n"]
)
async def test_content_reaches_the_node_as_the_program_framed_it(framing: bytes) -> None:
    async def answering(call: CannedCall) -> None:
        content = framing.partition(b"\r\n\r\n")[2]
        assert await call.reader.readexactly(len(content)) == content
        named = [name for name, _ in call.head.fields if name in (b"Content-Length", b"Transfer-Encoding")]
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(named[0]), named[0]))

    async with proxy_before(answering) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LINE.replace(b"GET", b"POST") + HOST + framing)
        assert (await reader.read(-1)).endswith(b"\r\n\r\n" + framing.partition(b":")[0])
        await served
        writer.close()


@pytest.mark.parametrize("reset", [False, True])
async def test_an_answer_is_not_waited_for_where_the_program_has_left(
    monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    monkeypatch.setattr(local_proxy, "LEFT_SECONDS", 60.0 if reset else 0.0)
    asked = asyncio.Event()

    async def answering(call: CannedCall) -> None:
        asked.set()
        await call.reader.read(-1)

    async with proxy_before(answering) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LINE + HOST + b"\r\n")
        await asked.wait()
        if reset:
            break_off(writer)
        else:
            writer.write_eof()
            assert (await reader.read(-1)).startswith(b"HTTP/1.1 504 ")
        await asyncio.wait([served])
        writer.close()


async def test_an_endless_answer_ends_where_the_program_has_left_and_nothing_comes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Events of a service that has nothing to tell for hours; nobody writes, so nobody would notice."""
    monkeypatch.setattr(local_proxy, "LEFT_SECONDS", 0.0)
    given_up = asyncio.Event()

    async def answering(call: CannedCall) -> None:
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\n\n")
        with contextlib.suppress(ConnectionResetError):
            await call.reader.read(-1)
        given_up.set()

    async with proxy_before(answering) as (port, served):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LINE + HOST + b"\r\n")
        await reader.readuntil(b"id: 1\n\n")
        writer.close()
        await given_up.wait()
        await asyncio.wait([served])
        assert isinstance(served.exception(), OSError)
