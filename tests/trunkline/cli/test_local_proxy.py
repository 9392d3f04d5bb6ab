"""What the local proxy refuses by itself, over a real loopback connection."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from certs.tls import client_context
from trunkline.cli.local_proxy import LocalProxy
from trunkline.client.control_plane import ControlPlane


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


@pytest.mark.parametrize("site", [b"cross-site", b"same-site"])
async def test_another_sites_requests_are_refused(port: int, site: bytes) -> None:
    target = b"http://vm-1.main.trunk.internal/v1/health"
    request = b"GET %b HTTP/1.1\r\nHost: vm-1.main.trunk.internal\r\nSec-Fetch-Site: %b\r\n\r\n" % (target, site)
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
