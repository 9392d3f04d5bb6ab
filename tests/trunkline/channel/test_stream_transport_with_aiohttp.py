"""An aiohttp application over streams: exchanges, bodies, and the end of a handler when its caller goes."""

import asyncio
import logging

import pytest
from aiohttp import web

from tests.support.http_over_stream import running_application, serve_stream
from tests.support.link_pair import link_pair
from trunkline.channel.stream_transport import open_stream_pair

BOTH_LOOPS = True


class Application:
    """An application with one handler for each case, and what its handlers lived through."""

    def __init__(self):
        self.started = asyncio.Event()
        self.ended = asyncio.get_running_loop().create_future()
        self.application = web.Application(client_max_size=1 << 30)
        self.application.router.add_get("/hello", self.hello)
        self.application.router.add_post("/echo", self.echo)
        self.application.router.add_get("/wait", self.wait)
        self.application.router.add_get("/stream", self.stream)
        self.application.router.add_post("/refuse", self.refuse)

    async def hello(self, request):
        return web.Response(text=f"hello {request.get_extra_info('caller')}")

    async def echo(self, request):
        return web.Response(body=await request.read())

    async def refuse(self, request):
        return web.Response(status=403)

    async def wait(self, request):
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set_result("cancelled")

    async def stream(self, request):
        response = web.StreamResponse()
        await response.prepare(request)
        self.started.set()
        try:
            while True:
                await response.write(b"x" * 65_536)
        except BaseException as error:
            self.ended.set_result(type(error).__name__)
            raise


def head(method, path, *fields):
    lines = [f"{method} {path} HTTP/1.1", "Host: node.test", "Connection: close", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def exchange(link, request):
    reader, writer = open_stream_pair(link.open())
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.fixture
async def served():
    cases = Application()
    async with (
        running_application(cases.application, shutdown_seconds=0.1) as server,
        link_pair(lambda stream: serve_stream(stream, server, extra={"caller": "H"})) as (client, _),
    ):
        yield cases, client


async def test_an_exchange(served):
    _, link = served
    answer = await exchange(link, head("GET", "/hello"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nhello H")


async def test_a_body_larger_than_any_window_comes_back_whole(served):
    _, link = served
    body = bytes(range(256)) * 20_000
    answer = await exchange(link, head("POST", "/echo", f"Content-Length: {len(body)}") + body)
    assert answer.partition(b"\r\n\r\n")[2] == body


async def test_many_exchanges_at_once(served):
    _, link = served
    answers = await asyncio.gather(*(exchange(link, head("GET", "/hello")) for _ in range(200)))
    assert all(answer.endswith(b"hello H") for answer in answers)
    assert link.streams == 0


async def test_a_handler_is_cancelled_when_its_caller_resets_the_stream(served, caplog):
    cases, link = served
    caplog.set_level(logging.INFO)
    stream = link.open()
    _, writer = open_stream_pair(stream)
    writer.write(head("GET", "/wait"))
    await cases.started.wait()
    writer.transport.abort()
    assert await cases.ended == "cancelled"
    assert not caplog.records


async def test_a_handler_is_cancelled_when_the_link_is_lost(served):
    cases, link = served
    _, writer = open_stream_pair(link.open())
    writer.write(head("GET", "/wait"))
    await cases.started.wait()
    link.abort()
    assert await cases.ended == "cancelled"


async def test_a_handler_that_streams_is_held_back_and_then_ended_with_its_caller(served):
    cases, link = served
    stream = link.open()
    _, writer = open_stream_pair(stream)
    writer.write(head("GET", "/stream"))
    await cases.started.wait()
    writer.transport.abort()
    assert await cases.ended in ("CancelledError", "ClientConnectionResetError", "ConnectionResetError")


async def test_a_response_before_the_end_of_the_body_ends_the_stream(served):
    _, link = served
    answer = await exchange(link, head("POST", "/refuse", "Content-Length: 100000000") + b"x" * 1000)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")


async def test_what_is_not_http_is_answered_and_ended(served):
    _, link = served
    answer = await exchange(link, b"\x16\x03\x01garbage\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 400 ")
