"""Peers that send as fast as they can what costs its taker more than themselves; each returns once it is cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from struct import Struct

from bench.target import Target

FRAMES_A_WRITE = 1000
STREAMS = 200
_FRAME = Struct(">BBHII")
_DATA, _WINDOW_UPDATE, _PING = 0, 1, 2
_SYN, _RST = 1, 8

Flood = Callable[[Target], Awaitable[None]]


async def rapid_reset(target: Target) -> None:
    """Streams that are opened and reset at once, on one link (compare CVE-2023-44487)."""
    await _flood_link(target, _resets())


async def call_and_reset(target: Target) -> None:
    """The same with a whole request in each stream, so that each reaches the node."""
    request = target.request("GET", "/small").replace(b"Authorization", b"Proxy-Authorization")
    request = request.replace(f"GET {target.node.gateway}".encode(), b"GET ")
    request = request.replace(f"Host: localhost:{target.port}".encode(), f"Host: {target.node.host}".encode())
    await _flood_link(target, _resets(request))


async def ping_flood(target: Target) -> None:
    """Pings, on one link."""
    await _flood_link(target, _repeated(_FRAME.pack(0, _PING, _SYN, 0, 7)))


async def empty_frames(target: Target) -> None:
    """Credit of nothing for a stream that is not there, on one link."""
    await _flood_link(target, _repeated(_FRAME.pack(0, _WINDOW_UPDATE, 0, 99, 0)))


FLOODS: dict[str, Flood] = {
    "rapid reset": rapid_reset,
    "calls that are reset at once": call_and_reset,
    "ping flood": ping_flood,
    "empty frames": empty_frames,
}


async def tiny_chunks(target: Target, chunks: int) -> bytes:
    """A request whose content is in chunks of one byte; returns the status line of the answer."""
    reader, writer = await target.connect()
    try:
        writer.write(target.request("PUT", "/upload", "Transfer-Encoding: chunked"))
        for _ in range(chunks // FRAMES_A_WRITE):
            writer.write(b"1\r\nx\r\n" * FRAMES_A_WRITE)
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        return await reader.readline()
    finally:
        writer.transport.abort()


async def many_headers(target: Target, count: int) -> bytes:
    """A head with so many fields; returns the status line of the answer."""
    reader, writer = await target.connect()
    try:
        writer.write(target.request("GET", "/small", *(f"X-{number}: y" for number in range(count))))
        return await reader.readline()
    finally:
        writer.transport.abort()


async def unread_windows(target: Target, *, reading: bool) -> None:
    """Downloads on many streams of one link, none of which gets credit; with `reading` false not even the link is read.

    Returns once the link is closed.
    """
    reader, writer = await open_link(target)
    head = f"GET /bulk/{16 * 1024 * 1024} HTTP/1.1\r\nHost: {target.node.host}\r\nConnection: close\r\n"
    head += f"Proxy-Authorization: Bearer {target.node.call_token}\r\n\r\n"
    try:
        for number in range(STREAMS):
            writer.write(_FRAME.pack(0, _DATA, _SYN, 2 * number + 1, len(head)) + head.encode())
        if not reading:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):
            while not writer.transport.is_closing():
                # Credit of nothing: enough to seem alive.
                writer.write(_FRAME.pack(0, _WINDOW_UPDATE, 0, 1, 0))
                await (_read_for(reader, 1.0) if reading else asyncio.sleep(1.0))
    finally:
        writer.transport.abort()


async def open_link(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A sender's link, plain yamux from here on."""
    reader, writer = await target.connect(receive_bytes=65_536)
    lines = ["GET /v1/link HTTP/1.1", f"Host: localhost:{target.port}", "Connection: Upgrade", "Upgrade: yamux"]
    lines += [f"Authorization: Bearer {target.node.call_token}", "", ""]
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 101 "):
        raise ConnectionRefusedError(head.decode())
    return reader, writer


async def _read_for(reader: asyncio.StreamReader, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while await reader.read(65_536):
                pass


async def _flood_link(target: Target, blocks: Iterator[bytes]) -> None:
    """Send until the link is closed."""
    reader, writer = await open_link(target)
    closed = asyncio.create_task(reader.read(-1))
    try:
        with contextlib.suppress(OSError):
            for block in blocks:
                writer.write(block)
                await writer.drain()
                if closed.done() or writer.transport.is_closing():
                    return
                await asyncio.sleep(0)
    finally:
        closed.cancel()
        await asyncio.gather(closed, return_exceptions=True)
        writer.transport.abort()


def _repeated(frame: bytes) -> Iterator[bytes]:
    while True:
        yield frame * FRAMES_A_WRITE


def _resets(request: bytes = b"") -> Iterator[bytes]:
    stream_id = 1
    while True:
        frames = []
        for _ in range(FRAMES_A_WRITE):
            kind, length = (_DATA, len(request)) if request else (_WINDOW_UPDATE, 0)
            frames += [_FRAME.pack(0, kind, _SYN, stream_id, length), request]
            frames.append(_FRAME.pack(0, _WINDOW_UPDATE, _RST, stream_id, 0))
            stream_id += 2
        yield b"".join(frames)
