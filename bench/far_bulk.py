"""The row of a node that is far away: a download over a path that adds 100 ms each way, and over TCP alone."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.credentials import NodeCredentials
from bench.far import far_away
from bench.machine import LOAD_CORE
from bench.nginx import Nginx
from bench.relay import Relay, listening
from bench.rows import Row
from bench.target import Target
from certs.tls import TlsContext

FAR_BULK = "bulk download from a node 100 ms away each way"
BYTES = 128 * 1024 * 1024
LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Far:
    """Where listeners dial the relay."""

    url: str


def far_bulk(
    relay: Relay, nginx: Nginx, nodes_file: Path, node: NodeCredentials, context: TlsContext, repetitions: int
) -> Row:
    """Seconds of a download; nginx's are those of one connection over the same path, which is to say of TCP."""
    row = Row(FAR_BULK, f"s for {BYTES // 2**20} MiB", 1.25)
    target = Target(relay.port, context, node)
    path = f"/bulk/{BYTES}"
    with far_away(relay.port) as port, listening(_Far(f"https://localhost:{port}"), nodes_file, LOAD_CORE):
        for _ in range(repetitions):
            row.relay.append(asyncio.run(_seconds(relay.port, context, target.request("GET", path))))
            with far_away(urlsplit(nginx.url).port or 443) as alone:
                request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
                row.nginx.append(asyncio.run(_seconds(alone, context, request)))
    return row


async def _seconds(port: int, context: TlsContext, request: bytes) -> float:
    """How long the answer takes, the connection being there."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost", limit=LIMIT_BYTES
    )
    try:
        began = time.monotonic()
        writer.write(request)
        await reader.readuntil(b"\r\n\r\n")
        left = BYTES
        while left and (data := await reader.read(LIMIT_BYTES)):
            left -= len(data)
        if left:
            raise RuntimeError(f"{left} bytes did not come")
        return time.monotonic() - began
    finally:
        writer.transport.abort()
