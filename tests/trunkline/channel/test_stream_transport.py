import asyncio

import aiohttp
import pytest
from aiohttp import web
from aiohttp.connector import BaseConnector

from tests.support.links import LinkPair, Recorder, ticks, until
from tests.support.memory_transport import Split
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.limits import Limits
from trunkline.channel.stream_transport import (
    LINGER_SECONDS,
    MOST_DROPPED_BYTES,
    StreamTransport,
    adopt_stream_pair,
    open_stream_pair,
)

KIB = 1024
WINDOW = 64 * KIB
LIMITS = Limits(initial_window_bytes=WINDOW)


class Peer(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self, *, keep_open=True):
        self.keep_open = keep_open
        self.received = bytearray()
        self.calls = []
        self.lost_with = "not yet"

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def data_received(self, data):
        assert type(data) is bytes
        self.received += data

    def eof_received(self):
        self.calls.append("eof")
        return self.keep_open

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost_with = exc

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")


class Filled(asyncio.BufferedProtocol):
    """A protocol that brings a small buffer of its own."""

    def __init__(self):
        self.buffer = bytearray(7)
        self.received = bytearray()

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.received += self.buffer[:nbytes]


def _transports(*, keep_open=True, here=None, there=None, **options):
    """A link pair, and two protocols joined by one stream of it; the right one appears with the first bytes."""
    loop = asyncio.get_running_loop()
    left = here or Peer(keep_open=keep_open)
    right = there or Peer(keep_open=keep_open)
    pair = LinkPair(lambda stream: StreamTransport(loop, stream, right), limits=LIMITS, **options)
    return pair, left, right, StreamTransport(loop, pair.client.open(), left)


@in_virtual_time
async def test_bytes_and_both_ends():
    pair, left, right, transport = _transports(split=Split.RANDOM)
    assert left.calls == ["made"]
    assert transport.get_protocol() is left
    assert transport.can_write_eof()
    question = bytearray(range(256)) * 2000
    transport.write(question)
    question[:] = bytes(len(question))
    transport.write_eof()
    with pytest.raises(RuntimeError):
        transport.write(b"x")
    await asyncio.sleep(1)
    assert right.received == bytes(range(256)) * 2000
    assert right.calls == ["made", "eof"]
    right.transport.writelines([b"an", memoryview(b"swer"), b""])
    right.transport.close()
    await asyncio.sleep(1)
    assert left.received == b"answer"
    assert left.calls[-1] == "eof"
    assert (right.calls[-1], right.lost_with) == ("lost", None)
    assert pair.client.streams == 0
    transport.close()
    await asyncio.sleep(1)
    assert left.lost_with is None
    await pair.close()


@in_virtual_time
async def test_a_protocol_that_does_not_keep_the_connection_is_closed_at_the_end():
    pair, left, right, transport = _transports(keep_open=False)
    transport.write(b"all")
    transport.close()
    await asyncio.sleep(1)
    assert right.received == b"all"
    assert right.calls == ["made", "eof", "lost"]
    assert left.calls == ["made", "lost"]
    assert (left.lost_with, right.lost_with) == (None, None)
    assert (pair.client.streams, pair.server.streams) == (0, 0)
    await pair.close()


@in_virtual_time
async def test_a_reset_is_a_connection_reset_for_the_peer():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    transport.abort()
    transport.abort()
    await asyncio.sleep(1)
    assert isinstance(right.lost_with, ConnectionResetError)
    assert left.lost_with is None
    assert left.calls.count("lost") == right.calls.count("lost") == 1
    right.transport.write(b"ignored")
    right.transport.close()
    await pair.close()


@in_virtual_time
async def test_a_lost_link_is_a_connection_reset():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    pair.client_transport.abort()
    await asyncio.sleep(1)
    assert isinstance(left.lost_with, ConnectionResetError)
    assert isinstance(right.lost_with, ConnectionResetError)
    await pair.close()


@in_virtual_time
async def test_a_protocol_that_pauses_reading_gives_no_credit():
    pair, left, right, transport = _transports()
    transport.set_write_buffer_limits(high=100 * KIB, low=10 * KIB)
    transport.write(b"first")
    await asyncio.sleep(1)
    right.transport.pause_reading()
    assert not right.transport.is_reading()
    transport.write(bytes(300 * KIB))
    transport.write_eof()
    await asyncio.sleep(60)
    assert right.received == b"first"
    assert transport.get_write_buffer_size() == 300 * KIB - (WINDOW - 5)
    assert left.calls == ["made", "pause"]
    right.transport.resume_reading()
    await asyncio.sleep(1)
    assert len(right.received) == 300 * KIB + 5
    assert left.calls == ["made", "pause", "resume"]
    assert right.calls == ["made", "eof"]
    await pair.close()


@in_virtual_time
async def test_an_end_waits_for_a_paused_reader():
    pair, _, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    right.transport.pause_reading()
    transport.write_eof()
    await asyncio.sleep(1)
    assert right.calls == ["made"]
    right.transport.resume_reading()
    await asyncio.sleep(1)
    assert right.calls == ["made", "eof"]
    await pair.close()


@in_virtual_time
async def test_close_sends_what_was_kept():
    pair, left, right, transport = _transports()
    transport.write(bytes(1_000_000))
    transport.close()
    assert transport.is_closing()
    assert left.calls == ["made", "pause"]
    await asyncio.sleep(1)
    assert len(right.received) == 1_000_000
    assert left.lost_with is None
    await pair.close()


@in_virtual_time
async def test_a_peer_that_never_ends_is_cut_off_after_a_while():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    transport.close()
    right.transport.write(bytes(MOST_DROPPED_BYTES + 9 * 1024 * KIB))
    await asyncio.sleep(LINGER_SECONDS - 2)
    assert right.calls == ["made", "pause", "eof"], "no credit for all that is dropped"
    assert left.received == b""
    await asyncio.sleep(5)
    assert isinstance(right.lost_with, ConnectionResetError)
    assert pair.client.streams == 0
    await pair.close()


@in_virtual_time
async def test_a_peer_that_closes_too_need_not_wait_with_what_nobody_reads():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    transport.pause_reading()
    right.transport.write(bytes(WINDOW))
    await asyncio.sleep(1)
    transport.close()
    right.transport.write(bytes(5 * 1024 * KIB))
    right.transport.close()
    await asyncio.sleep(1)
    assert (left.lost_with, right.lost_with, left.received) == (None, None, b"")
    assert pair.client.streams == 0
    await pair.close()


@in_virtual_time
async def test_a_peer_that_reads_slowly_gets_all_that_was_written_before_the_close():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    transport.write(bytes(200 * KIB))
    transport.close()
    while not right.received.endswith(bytes(200 * KIB)):
        assert pair.client.streams == 1
        right.transport.pause_reading()
        await asyncio.sleep(LINGER_SECONDS - 2)
        right.transport.resume_reading()
        await asyncio.sleep(0.1)
    assert left.lost_with is None
    await asyncio.sleep(LINGER_SECONDS - 2)
    right.transport.close()
    await asyncio.sleep(1)
    assert right.lost_with is None
    assert pair.client.streams == 0
    await pair.close()


@in_virtual_time
async def test_a_peer_that_never_reads_does_not_hold_up_a_close():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    right.transport.pause_reading()
    transport.write(bytes(200 * KIB))
    transport.close()
    await asyncio.sleep(LINGER_SECONDS + 1)
    assert left.calls[-1] == "lost"
    assert pair.client.streams == 0
    await pair.close()


@in_virtual_time
async def test_a_peer_that_ends_and_never_reads_does_not_hold_up_a_close():
    pair, left, right, transport = _transports()
    transport.write(b"x")
    await asyncio.sleep(1)
    right.transport.pause_reading()
    transport.write(bytes(200 * KIB))
    transport.close()
    right.transport.write_eof()
    await asyncio.sleep(LINGER_SECONDS + 1)
    assert left.calls[-1] == "lost"
    assert pair.client.streams == 0
    await pair.close()


@in_virtual_time
async def test_write_buffer_limits_are_checked():
    pair, _, _, transport = _transports()
    transport.set_write_buffer_limits(low=10)
    assert transport.get_write_buffer_limits() == (10, 40)
    transport.set_write_buffer_limits(high=100)
    assert transport.get_write_buffer_limits() == (25, 100)
    with pytest.raises(ValueError, match="high"):
        transport.set_write_buffer_limits(high=1, low=2)
    await pair.close()


@in_virtual_time
async def test_a_buffered_protocol_is_filled():
    pair, _, right, transport = _transports(there=Filled())
    transport.write(bytes(range(100)))
    await asyncio.sleep(1)
    assert right.received == bytes(range(100))
    await pair.close()


@in_virtual_time
async def test_a_protocol_that_fails_costs_its_stream_only():
    class Failing(Peer):
        def data_received(self, data):
            raise ValueError("on purpose")

    failures = []
    pair, left, right, transport = _transports(
        there=Failing(), on_handler_error=lambda stream, error: failures.append(error)
    )
    transport.write(b"x")
    await asyncio.sleep(1)
    assert [type(failure) for failure in failures] == [ValueError]
    assert isinstance(left.lost_with, ConnectionResetError)
    assert isinstance(right.lost_with, ConnectionResetError)
    assert not pair.server.lost
    await pair.close()


@in_virtual_time
async def test_another_protocol_can_take_over():
    pair, _, right, transport = _transports()
    transport.write(b"old")
    await asyncio.sleep(1)
    new = Peer()
    right.transport.pause_reading()
    transport.write(b"new")
    await asyncio.sleep(1)
    right.transport.set_protocol(new)
    right.transport.resume_reading()
    await asyncio.sleep(1)
    assert right.received == b"old"
    assert new.received == b"new"
    await pair.close()


# Stream readers and writers


@in_virtual_time
async def test_reader_and_writer():
    accepted = []

    def accept(stream):
        accepted.append(open_stream_pair(stream))
        return stream.handler

    pair = LinkPair(accept, limits=LIMITS)
    reader, writer = open_stream_pair(pair.client.open())

    async def question():
        for _ in range(100):
            writer.write(bytes(10_000))
            await writer.drain()
        writer.write_eof()

    async def answer():
        await until(lambda: bool(accepted))
        its_reader, its_writer = accepted[0]
        size = len(await its_reader.read(-1))
        its_writer.write(b"%d\n" % size)
        await its_writer.drain()
        its_writer.close()
        await its_writer.wait_closed()

    async with asyncio.TaskGroup() as group:
        group.create_task(question())
        group.create_task(answer())
    assert await reader.read(-1) == b"1000000\n"
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.1)
    assert (pair.client.streams, pair.server.streams) == (0, 0)
    await pair.close()


@in_virtual_time
async def test_a_stream_is_adopted_with_what_has_arrived():
    pair = LinkPair(lambda stream: Recorder(stream, consume=False), limits=LIMITS)
    stream = pair.client.open()
    stream.handler = Recorder(stream)
    stream.write(b"before, ")
    await asyncio.sleep(0.1)
    there = pair.server_owner.handlers[0].stream
    arrived = bytes(there.handler.received)
    reader, writer = adopt_stream_pair(there, arrived)
    stream.write(b"after", end=True)
    assert await reader.read(-1) == b"before, after"
    assert there.unconsumed_bytes == 0
    writer.close()
    await asyncio.sleep(0.1)
    assert pair.server.streams == 0
    await pair.close()


@in_virtual_time
async def test_a_stream_is_adopted_after_its_end():
    pair = LinkPair(lambda stream: Recorder(stream, consume=False), limits=LIMITS)
    stream = pair.client.open(Recorder())
    stream.write(b"all of it", end=True)
    await asyncio.sleep(0.1)
    there = pair.server_owner.handlers[0].stream
    reader, writer = adopt_stream_pair(there, b"all of it")
    assert await reader.read(-1) == b"all of it"
    writer.close()
    lost = pair.client.open(Recorder())
    lost.reset()
    reader, writer = adopt_stream_pair(lost, b"")
    with pytest.raises(ConnectionResetError):
        await reader.read(-1)
    await pair.close()


# aiohttp, both sides


class StreamConnector(BaseConnector):
    """Connects aiohttp's client over streams of a link."""

    def __init__(self, link):
        super().__init__(force_close=True)
        self._link = link

    async def _create_connection(self, req, traces, timeout):
        protocol = self._factory()
        StreamTransport(self._loop, self._link.open(), protocol, extra={"peername": ("node", 80)})
        return protocol


async def _serve(handler, **options):
    loop = asyncio.get_running_loop()
    server = web.Server(handler, handler_cancellation=True)
    pair = LinkPair(lambda stream: StreamTransport(loop, stream, server()), limits=LIMITS, **options)
    return server, pair


@pytest.mark.parametrize("split", [Split.WHOLE, Split.RANDOM])
@in_virtual_time
async def test_aiohttp_serves_and_calls_over_streams(split):
    async def handler(request):
        body = await request.read()
        return web.Response(body=body[::-1], headers={"X-Path": request.path})

    server, pair = await _serve(handler, split=split)
    async with aiohttp.ClientSession(connector=StreamConnector(pair.client)) as session:
        for size in (0, 10, 500_000):
            body = bytes(number % 251 for number in range(size))
            async with session.post("http://node/echo", data=body) as response:
                assert response.status == 200
                assert response.headers["X-Path"] == "/echo"
                assert await response.read() == body[::-1]
    await asyncio.sleep(1)
    assert (pair.client.streams, pair.server.streams) == (0, 0)
    await server.shutdown()
    await pair.close()


@in_virtual_time
async def test_a_caller_that_goes_away_cancels_the_handler():
    cancelled = []

    async def handler(request):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(request.path)
            raise
        return web.Response()

    server, pair = await _serve(handler)
    async with aiohttp.ClientSession(connector=StreamConnector(pair.client)) as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), session.get("http://node/slow"):
                pass
    await asyncio.sleep(1)
    assert cancelled == ["/slow"]
    await server.shutdown()
    await pair.close()


@in_virtual_time
async def test_a_slow_reader_of_a_long_answer_holds_up_the_handler():
    written = 0

    async def handler(request):
        nonlocal written
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(200):
            await response.write(bytes(10_000))
            written += 10_000
        return response

    server, pair = await _serve(handler)
    async with (
        aiohttp.ClientSession(connector=StreamConnector(pair.client), read_bufsize=4096) as session,
        session.get("http://node/long") as response,
    ):
        await asyncio.sleep(60)
        assert written < 600_000
        assert len(await response.read()) == 2_000_000
    await ticks()
    await server.shutdown()
    await pair.close()


@in_virtual_time
async def test_a_websocket_runs_over_a_stream():
    async def handler(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    server, pair = await _serve(handler)
    async with (
        aiohttp.ClientSession(connector=StreamConnector(pair.client)) as session,
        session.ws_connect("http://node/ws") as socket,
    ):
        await socket.send_str("hello")
        assert (await socket.receive()).data == "HELLO"
    await asyncio.sleep(1)
    await server.shutdown()
    await pair.close()
