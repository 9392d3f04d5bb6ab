"""Services on a node's loopback for tests of forwarded ports: bytes by the megabyte, an echo, a WebSocket echo."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import WSMsgType, web

PIECE_BYTES = 256 * 1024


def pattern(size: int) -> bytes:
    """Bytes of which every stretch is different, so that a lost, doubled or moved piece shows."""
    block = b"".join(hashlib.sha256(number.to_bytes(8, "big")).digest() for number in range(4096))
    pieces = [hashlib.sha256(b"%d" % index).digest() + block for index in range(size // len(block) + 1)]
    return b"".join(pieces)[:size]


async def _bytes(request: web.Request) -> web.StreamResponse:
    content = pattern(int(request.match_info["size"]))
    response = web.StreamResponse()
    response.content_length = len(content)
    await response.prepare(request)
    for start in range(0, len(content), PIECE_BYTES):
        await response.write(content[start : start + PIECE_BYTES])
    return response


async def _digest(request: web.Request) -> web.Response:
    digest = hashlib.sha256()
    size = 0
    async for piece in request.content.iter_chunked(PIECE_BYTES):
        digest.update(piece)
        size += len(piece)
    return web.json_response({"sha256": digest.hexdigest(), "size": size})


async def _headers(request: web.Request) -> web.Response:
    response = web.json_response({"fields": [[name, value] for name, value in request.headers.items()]})
    response.headers["Set-Cookie"] = "session=1"
    return response


async def _websocket(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


@asynccontextmanager
async def http_service() -> AsyncIterator[int]:
    """Serve /bytes/{size}, /digest, /headers and /websocket on a loopback port, which is what comes out."""
    application = web.Application(client_max_size=0)
    application.router.add_get("/bytes/{size}", _bytes)
    application.router.add_route("*", "/digest", _digest)
    application.router.add_get("/headers", _headers)
    application.router.add_get("/websocket", _websocket)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=2048)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def echo_service() -> AsyncIterator[int]:
    """Echo raw bytes on a loopback port, which is what comes out; an end is answered by an end."""
    server = await asyncio.start_server(_echo, "127.0.0.1", 0, backlog=2048)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()
