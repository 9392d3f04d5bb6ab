"""Garbage, truncation and hostile frames on every port: a documented outcome, no traceback, memory flat."""

import asyncio
import contextlib
import random
import ssl
import struct
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from certs.tls import client_context
from tests.support.sandboxes import Sandbox

ROUNDS = 150
GROWTH_BYTES = 24 * 1024 * 1024


def _heads() -> Iterable[bytes]:
    yield b"GET / HTTP/1.1\r\n\r\n"
    yield b"GET / HTTP/0.9\r\n\r\n"
    yield b"GET /\r\n"
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"GET / ICE/1.0\r\nHost: a\r\n\r\n"
    yield b"GET http://user@vm-1.main.trunk.internal/ HTTP/1.1\r\nHost: vm-1.main.trunk.internal\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx"
    yield b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"
    yield b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"
    yield b"GET / HTTP/1.1\nHost: a\n\n"
    yield b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n"
    yield b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n"
    yield b"GET /v1/link HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: yamux\r\n\r\n" + b"\xff" * 64
    yield b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n"
    yield b"A" * 200_000
    yield struct.pack(">BBHII", 0, 0, 1, 1, 2**32 - 1) * 10
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200


async def _send(host: str, port: int, content: bytes, context: ssl.SSLContext | None, cut: bool) -> bytes:
    with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
        async with asyncio.timeout(6):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(content)
                await writer.drain()
                if cut:
                    writer.transport.abort()
                    return b""
                if context is None:
                    writer.write_eof()
                return await reader.read(4096)
            finally:
                writer.transport.abort()
    return b""


async def _attack(host: str, port: int, context: ssl.SSLContext | None) -> list[bytes]:
    """Send every hostile head, whole and cut off, and noise; returns what the whole heads were answered."""
    rng = random.Random(20)
    heads = list(_heads())
    answers = await asyncio.gather(*(_send(host, port, head, context, cut=False) for head in heads))
    parts = [head[: rng.randrange(1, len(head))] for head in heads]
    noise = [rng.randbytes(rng.randrange(1, 4096)) for _ in range(ROUNDS)]
    for pieces in (parts, noise):
        for start in range(0, len(pieces), 25):
            await asyncio.gather(*(_send(host, port, piece, context, cut=True) for piece in pieces[start : start + 25]))
    return answers


def _memory(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@pytest.mark.parametrize("tls", [True, False], ids=["inside TLS", "instead of TLS"])
@pytest.mark.parametrize("role", ["relay", "control_plane"])
def test_garbage_on_the_public_ports(sandbox: Sandbox, role: str, tls: bool) -> None:
    description = sandbox.description
    url = urlsplit(description["relay_url" if role == "relay" else "control_plane_url"])
    assert url.hostname is not None
    assert url.port is not None
    context = client_context(ca_file=Path(description["ca_file"])) if tls else None
    asyncio.run(_attack(url.hostname, url.port, context))
    before, pid = _memory(sandbox.pid(role)), sandbox.pid(role)
    answers = asyncio.run(_attack(url.hostname, url.port, context))
    assert sandbox.pid(role) == pid, "it did not die"
    assert _memory(pid) - before < GROWTH_BYTES
    if tls:
        statuses = {answer.split(b" ")[1] for answer in answers if answer.startswith(b"HTTP/1.")}
        assert statuses <= {b"400", b"401", b"404", b"407", b"408", b"414", b"426", b"431", b"501", b"505"}, statuses
        assert b"400" in statuses
    assert "Traceback" not in sandbox.logs()


@pytest.mark.parametrize("role", ["relay", "control_plane", "node_agent"])
def test_garbage_on_the_admin_ports(sandbox: Sandbox, role: str) -> None:
    found = sandbox.description["admin_urls"][role]
    for address in found if isinstance(found, list) else [found]:
        url = urlsplit(address)
        assert url.hostname is not None
        assert url.port is not None
        asyncio.run(_attack(url.hostname, url.port, None))
    assert "Traceback" not in sandbox.logs()
    assert sandbox.trunkline("run", "--all", "--", "true").returncode == 0
