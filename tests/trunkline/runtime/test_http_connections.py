import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.support.links import until
from trunkline.runtime.http_connections import HttpConnections

PIECE = b"x" * 65_536


class Serving:
    """Answers until the kernel takes no more, and the transport holds the end."""

    def __init__(self) -> None:
        app = web.Application()
        app.router.add_get("/full", self._answer)
        app.router.add_get("/never", self._never)
        self.gone: list[asyncio.Transport] = []
        self.begun = asyncio.Event()
        self.connections = HttpConnections(app, gone=self.gone.append)
        self.sent_bytes = self.port = 0

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        self.begun.set()
        while request.transport is not None and not request.transport.get_write_buffer_size():
            await response.write(PIECE)
            self.sent_bytes += len(PIECE)
        return response

    async def _never(self, request: web.Request) -> web.StreamResponse:
        self.begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def asking(self, path: str) -> socket.socket:
        asking = socket.create_connection(("127.0.0.1", self.port))
        asking.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        await until(lambda: len(self.connections) == 1)
        return asking


@asynccontextmanager
async def serving() -> AsyncIterator[Serving]:
    serving = Serving()
    await serving.connections.start()
    server = await asyncio.get_running_loop().create_server(serving.connections.connection, "127.0.0.1", 0)
    serving.port = server.sockets[0].getsockname()[1]
    try:
        yield serving
    finally:
        server.close()
        await serving.connections.close()


async def test_none_is_left_once_its_peer_has_the_whole_answer():
    async with serving() as served:
        with await served.asking("/full") as asking:
            await served.begun.wait()
            await served.connections.finish_answers()
            (transport,) = served.connections.transports
            assert transport.is_closing()
            last = asyncio.ensure_future(served.connections.none_left())
            await asyncio.sleep(0)
            assert not last.done()
            received = b""
            while not received.endswith(b"0\r\n\r\n"):
                received += await asyncio.to_thread(asking.recv, 65_536)
            await last
        assert received.count(b"x") == served.sent_bytes
        assert served.gone == [transport]


async def test_what_is_cut_is_gone_whether_or_not_it_was_answered():
    for path in ("/full", "/never"):
        async with serving() as served:
            with await served.asking(path):
                if path == "/never":
                    await served.begun.wait()
                async with asyncio.timeout(30):
                    await served.connections.close()
                    await served.connections.none_left()
                assert len(served.connections) == 0


async def test_who_comes_behind_the_end_is_sent_away():
    async with serving() as served:
        await served.connections.finish_answers()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_a_connection_is_aborted_also_when_aiohttp_has_closed_it():
    async with serving() as served:
        with await served.asking("/full"):
            (connection,) = served.connections._transports
            await served.connections.finish_answers()
            served.connections.abort(connection)
            await served.connections.none_left()
            served.connections.abort(connection)
