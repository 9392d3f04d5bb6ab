"""What one connection of an HTTP server can have held before a request has come of it."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Self, cast

import pytest
from aiohttp import web

from trunkline.runtime.bounded_heads import MOST_HEAD_BYTES, BoundedHeads

REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n"
FIELD = b"X: " + b"y" * 4000 + b"\r\n"


class Wire(asyncio.Transport):
    """The other end of a connection, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, pieces: Any) -> None:
        self.written += b"".join(pieces)

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Server:
    """One connection to an application that answers with the length of what it was sent, once it is let."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        app = web.Application()
        app.router.add_post("/", self._answer)
        self._runner = web.AppRunner(app, access_log=None)

    async def _answer(self, request: web.Request) -> web.Response:
        await self.may_answer.wait()
        return web.Response(text=str(len(await request.read())))

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        server = cast(Any, self._runner.server)
        self.connection = BoundedHeads(server, loop=asyncio.get_running_loop(), access_log=None, max_field_size=16_384)
        self.connection.connection_made(self.wire)
        await self.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.may_answer.set()
        self.connection.connection_lost(None)
        await self._runner.cleanup()

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            if not self.wire.is_closing():
                self.connection.data_received(piece)
                await self.settle()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


async def test_a_head_without_end_is_refused_long_before_its_fields_are_too_many(server: Server):
    await server.send(REQUEST, *[FIELD] * 100)
    assert server.wire.closed
    head, _, body = server.wire.written.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    assert json.loads(body) == {
        "error_code": "BAD_REQUEST",
        "message": f"the head of the request is longer than {MOST_HEAD_BYTES} bytes",
    }


async def test_so_is_one_behind_a_request_that_was_answered(server: Server):
    await server.send(REQUEST + b"Content-Length: 1\r\n\r\nx", REQUEST, *[FIELD] * 100)
    assert server.wire.written.count(b"HTTP/1.1 200 ") == 1
    assert server.wire.written.count(b"HTTP/1.1 431 ") == 1
    assert server.wire.closed


@pytest.mark.parametrize(
    "beginning",
    [
        pytest.param(REQUEST + b"Content-Length: 1\r\n\r\nx" + REQUEST, id="the next head"),
        pytest.param(REQUEST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n", id="trailers"),
    ],
)
async def test_what_comes_without_end_while_an_answer_is_being_made_cuts_the_connection(
    server: Server, beginning: bytes
):
    server.may_answer.clear()
    await server.send(beginning, *[FIELD] * 100)
    assert server.wire.aborted
    assert server.wire.written == b""


@pytest.mark.parametrize(
    "framed",
    [
        pytest.param(lambda piece: piece, id="with a length"),
        pytest.param(lambda piece: b"%x\r\n%b\r\n" % (len(piece), piece), id="in chunks"),
    ],
)
async def test_content_is_not_meant_however_long_it_is(server: Server, framed: Callable[[bytes], bytes]):
    sent = [framed(b"z" * 1000)] * 200
    chunked = sent[0] != b"z" * 1000
    framing = b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: 200000\r\n\r\n"
    for _ in range(2):
        await server.send(REQUEST + framing, *sent, *([b"0\r\n\r\n"] if chunked else []))
    assert server.wire.written.count(b"\r\n\r\n200000") == 2
    assert not server.wire.is_closing()


async def test_many_heads_one_after_the_other_are_not_one_that_is_too_long(server: Server):
    request = REQUEST + FIELD + b"Content-Length: 0\r\n\r\n"
    for _ in range(30):
        await server.send(request[:2000], request[2000:])
    assert server.wire.written.count(b"HTTP/1.1 200 ") == 30
    assert not server.wire.is_closing()


async def test_content_is_never_unpacked(server: Server):
    server.may_answer.clear()
    bomb = gzip.compress(b"\0" * 8_000_000)
    await server.send(REQUEST + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)
    server.may_answer.set()
    await server.settle()
    assert server.wire.written.endswith(b"\r\n\r\n%d" % len(bomb))
