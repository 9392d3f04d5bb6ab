"""Peers that hold connections by being slow, none of which reads, answers a goodbye, or goes by itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.target import Target

DRIP_SECONDS = 0.5
POUR_SECONDS = 0.01
ESTABLISHED = 1
CONNECTING_AT_ONCE = 50
CLIENT_HELLO_START = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
REFUSED = b"GET /v1/workspaces/a/nodes/b/ HTTP/1.1\r\nHost: relay\r\n\r\n"
BULK = "/bulk/20000"


@dataclass(frozen=True, slots=True)
class SlowPeer:
    """What such a peer sends: something first, then a drop now and then, or as much as is taken."""

    first: bytes
    drop: bytes = b""
    tls: bool = True
    pours: bool = False

    async def hold(self, writer: asyncio.StreamWriter) -> None:
        """Hold the connection until it breaks."""
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(self.first)
        while _established(writer):
            writer.write(self.drop)
            if self.pours:
                await writer.drain()
            await asyncio.sleep(POUR_SECONDS if self.pours else DRIP_SECONDS)


SLOW_PEERS: dict[str, Callable[[Target], SlowPeer]] = {
    "half-open TLS": lambda target: SlowPeer(CLIENT_HELLO_START, tls=False),
    "TLS and not a byte in it": lambda target: SlowPeer(b""),
    "slow head": lambda target: SlowPeer(target.request("GET", "/small")[:-2], b"X"),
    "slow body": lambda target: SlowPeer(target.request("PUT", "/upload", "Content-Length: 1000000"), b"x"),
    "download that is not read": lambda target: SlowPeer(target.request("GET", f"/bulk/{64 * 1024 * 1024}")),
    "pipelined calls, answers not read": lambda target: SlowPeer(b"", target.request("GET", BULK) * 50, pours=True),
    "pipelined refusals, not read": lambda target: SlowPeer(b"", REFUSED * 200, pours=True),
}


@asynccontextmanager
async def crowd(peer: SlowPeer, target: Target, count: int) -> AsyncIterator[None]:
    """So many of them, all connected, for as long as the block lasts; those that the relay closes stay away."""
    turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
    connected = [asyncio.Event() for _ in range(count)]
    tasks = [asyncio.create_task(_hold(peer, target, turns, event)) for event in connected]
    try:
        await asyncio.gather(*(event.wait() for event in connected))
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _hold(peer: SlowPeer, target: Target, turns: asyncio.Semaphore, connected: asyncio.Event) -> None:
    try:
        async with turns:
            _, writer = await target.connect(tls=peer.tls, receive_bytes=4096)
    finally:
        connected.set()
    try:
        with contextlib.suppress(OSError):
            await peer.hold(writer)
    finally:
        writer.transport.abort()


def _established(writer: asyncio.StreamWriter) -> bool:
    """Whether the connection is up, as the kernel knows: nobody else does who does not read."""
    connection: socket.socket = writer.get_extra_info("socket")
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == ESTABLISHED
