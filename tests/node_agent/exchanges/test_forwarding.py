"""Forwarding to real services on loopback, through a real link in memory."""

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import struct

import aiohttp
import pytest
from aiohttp import web

from certs.assertions import AssertionSigner
from certs.trust import TrustVerdict
from node_agent.exchanges.forwarding import ForwardedExchange, ServiceConnection
from tests.support.links import LinkPair, open_recorder
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.closing import Patience
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import parse_request_head
from trunkline.channel.stream_transport import StreamTransport


async def show(request):
    body = await request.read()
    return web.json_response(
        {"method": request.method, "path": request.path_qs, "headers": dict(request.headers), "sha": sha(body)}
    )


def sha(body):
    return hashlib.sha256(body).hexdigest()


async def blob(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(64):
        await response.write(bytes(65536))
    return response


async def echo_websocket(request):
    if "refuse" in request.query:
        return web.Response(status=403, text="no")
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    async for message in websocket:
        await websocket.send_bytes(message.data)
    return websocket


@pytest.fixture
async def service():
    """An HTTP service on loopback; gives its port."""
    app = web.Application(client_max_size=1 << 30)
    app.router.add_get("/ws", echo_websocket)
    app.router.add_get("/blob", blob)
    app.router.add_route("*", "/{path:.*}", show)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture
def allow(policy_file, policy):
    def allow_port(port, rules=""):
        policy_file.write_text(policy_file.read_text() + f"\n[ports.{port}]\n{rules}\n")
        assert policy.reload()

    return allow_port


@contextlib.asynccontextmanager
async def raw_service(handle):
    """A TCP service that hands each connection to `handle`."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_request_reaches_the_service_without_the_token(agent, kit, service, allow):
    allow(service)
    answer = await agent.call(
        "GET", "/a?b=c", token=kit.call_token(f"port:{service}"), port=service, fields=("Authorization: mine", "X-A: 1")
    )
    shown = json.loads(answer.body)
    assert (answer.status, shown["method"], shown["path"]) == (200, "GET", "/a?b=c")
    assert shown["headers"]["Authorization"] == "mine"
    assert shown["headers"]["Host"] == f"vm-1.finance.trunk.internal:{service}"
    assert "Proxy-Authorization" not in shown["headers"]


async def test_bodies_in_both_framings(agent, kit, service, allow):
    allow(service)
    body = os.urandom(700_001)
    token = kit.call_token(f"port:{service}")
    answer = await agent.call("POST", "/", token=token, port=service, body=body)
    assert json.loads(answer.body)["sha"] == sha(body)
    chunked = (
        b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:5], body[5:])) + b"0\r\nX-Sum: 7\r\n\r\n"
    )
    head = f"PUT / HTTP/1.1\r\nHost: x:{service}\r\nProxy-Authorization: Bearer {token}\r\n"
    head += "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = await agent.exchange(head.encode() + chunked)
    shown = json.loads(answer.body)
    assert (shown["sha"], shown["headers"].get("Trailer")) == (sha(body), "X-Sum")


async def test_a_long_answer_is_whole(agent, kit, service, allow):
    allow(service)
    answer = await agent.call("GET", "/blob", token=kit.call_token(f"port:{service}"), port=service)
    assert answer.body == bytes(64 * 65536)


async def test_a_second_request_behind_the_first_never_reaches_the_service(agent, kit, service, allow):
    allow(service)
    token = kit.call_token(f"port:{service}")
    smuggled = (
        f"GET / HTTP/1.1\r\nHost: x:{service}\r\nProxy-Authorization: Bearer {token}\r\n\r\nGET /evil HTTP/1.1\r\n"
    )
    with pytest.raises(ConnectionResetError):
        await agent.exchange(smuggled.encode())


async def test_ports_that_the_owner_does_not_name_are_closed(agent, kit, service):
    answer = await agent.call("GET", "/", token=kit.call_token(f"port:{service}"), port=service)
    assert answer.status == 403
    assert "owner" in json.loads(answer.body)["message"]


async def test_ports_that_the_token_does_not_name_are_closed(agent, kit, service, allow):
    allow(service)
    answer = await agent.call("GET", "/", token=kit.call_token("health:read"), port=service)
    assert answer.status == 403
    assert "token" in json.loads(answer.body)["message"]


async def test_the_agents_own_port_stays_closed_whatever_the_policy_says(agent, kit, allow):
    allow(9465)
    assert (await agent.call("GET", "/metrics", token=kit.call_token("port:9465"), port=9465)).status == 403


async def test_workspace_tokens_open_shared_ports_only(agent, kit, service, allow):
    signer = AssertionSigner(kit.issue_relay())
    origin = kit.verifier().verify(kit.workspace_token(service), "tl-workspace+jwt", kit.now)
    assertion = signer.issue(origin, kit.node_spiffe_id(), service, now=kit.now).text
    allow(service)
    assert (await agent.call("GET", "/", token=assertion, port=service)).status == 403


async def test_workspace_tokens_open_shared_ports(agent, kit, service, allow):
    signer = AssertionSigner(kit.issue_relay())
    origin = kit.verifier().verify(kit.workspace_token(service), "tl-workspace+jwt", kit.now)
    assertion = signer.issue(origin, kit.node_spiffe_id(), service, now=kit.now).text
    allow(service, "shared = true")
    assert (await agent.call("GET", "/", token=assertion, port=service)).status == 200


async def test_where_nobody_listens_the_agent_says_so(agent, kit, allow):
    with socket.socket() as free:  # bound, so that nobody else is given it, and not listening
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        allow(port)
        answer = await agent.call("GET", "/", token=kit.call_token(f"port:{port}"), port=port)
        assert (answer.status, json.loads(answer.body)["error_code"]) == (502, "SERVICE_UNREACHABLE")
        answer = await agent.call("HEAD", "/", token=kit.call_token(f"port:{port}"), port=port)
        assert (answer.status, answer.body) == (502, b"")


async def test_a_service_that_hangs_up_is_not_an_empty_answer(agent, kit, allow):
    async def hang_up(reader, writer):
        await reader.read(1)
        writer.close()

    async with raw_service(hang_up) as port:
        allow(port)
        answer = await agent.call("GET", "/", token=kit.call_token(f"port:{port}"), port=port)
        assert (answer.status, json.loads(answer.body)["error_code"]) == (502, "SERVICE_UNREACHABLE")


async def test_a_service_that_breaks_off_is_never_a_clean_end(agent, kit, allow):
    async def break_off(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart")
        await writer.drain()
        await asyncio.sleep(0.02)
        reset_on_close = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset_on_close)
        writer.transport.abort()

    async with raw_service(break_off) as port:
        allow(port)
        with pytest.raises(ConnectionResetError):
            await agent.call("GET", "/", token=kit.call_token(f"port:{port}"), port=port)


def connect_head(port, token):
    return f"CONNECT vm-1:{port} HTTP/1.1\r\nHost: vm-1:{port}\r\nProxy-Authorization: Bearer {token}\r\n\r\n".encode()


async def test_raw_bytes_both_ways_with_half_close(agent, kit, allow):
    async def reverse(reader, writer):
        writer.write((await reader.read())[::-1])
        writer.close()

    async with raw_service(reverse) as port:
        allow(port)
        reader, writer = agent.open()
        writer.write(connect_head(port, kit.call_token(f"port:{port}")) + b"early")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 200 OK\r\n\r\n"
        payload = os.urandom(300_000)
        writer.write(payload)
        writer.write_eof()
        assert await reader.read() == (b"early" + payload)[::-1]
        writer.close()
        await writer.wait_closed()


async def test_the_service_may_end_first(agent, kit, allow):
    received = asyncio.get_running_loop().create_future()

    async def talk(reader, writer):
        writer.write(b"bye")
        writer.write_eof()
        received.set_result(await reader.read())
        writer.close()

    async with raw_service(talk) as port:
        allow(port)
        reader, writer = agent.open()
        writer.write(connect_head(port, kit.call_token(f"port:{port}")))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b"bye"
        writer.write(b"still here")
        writer.write_eof()
        assert await received == b"still here"
        writer.close()


async def test_a_slow_service_holds_the_caller_back(agent, kit, allow, until):
    go_on, total = asyncio.Event(), 0

    async def slow(reader, writer):
        nonlocal total
        await go_on.wait()
        while chunk := await reader.read(65536):
            total += len(chunk)
        writer.close()

    async with raw_service(slow) as port:
        allow(port)
        stream = agent.relay.open()
        written = 0

        class Pusher(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                self.blocked = False

            def pause_writing(self):
                self.blocked = True

            def resume_writing(self):
                self.blocked = False

        pusher = Pusher()
        transport = StreamTransport(asyncio.get_running_loop(), stream, pusher)
        transport.write(connect_head(port, kit.call_token(f"port:{port}")))
        turns_blocked = 0
        while turns_blocked < 200 and written < 20 * 1024 * 1024:
            if pusher.blocked:
                turns_blocked += 1
            else:
                turns_blocked = 0
                transport.write(bytes(65536))
                written += 65536
            await asyncio.sleep(0)
        assert written < 20 * 1024 * 1024
        go_on.set()
        await until(lambda: not transport.get_write_buffer_size())
        transport.write_eof()
        await until(lambda: total == written)
        assert total == written
        transport.close()


async def test_a_service_that_answers_before_it_reads_may_read_on(agent, kit, allow):
    answered, reported, size = asyncio.Event(), [], 8 * 1024 * 1024
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    drained = asyncio.get_running_loop().create_future()

    async def hasty(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.2)  # the upload fills every buffer on its way
        writer.write(b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
        writer.write_eof()
        await answered.wait()
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        drained.set_result(None)
        writer.close()

    async with raw_service(hasty) as port:
        allow(port)
        reader, writer = agent.open()
        head = (
            f"PUT / HTTP/1.1\r\nHost: vm-1:{port}\r\nProxy-Authorization: Bearer {kit.call_token(f'port:{port}')}\r\n"
        )
        writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % size + bytes(size))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 413")
        answered.set()
        await drained
        await asyncio.sleep(0.05)
        writer.transport.abort()
    assert reported == []


async def test_a_slow_caller_holds_the_service_back(agent, kit, allow):
    sent = 0

    async def flood(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                sent += 65536
        writer.close()

    async with raw_service(flood) as port:
        allow(port)
        reader, writer = agent.open()
        token = kit.call_token(f"port:{port}")
        writer.write(f"GET / HTTP/1.1\r\nHost: x:{port}\r\nProxy-Authorization: Bearer {token}\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        held = -1
        while sent != held:
            held = sent
            assert held < 16 * 1024 * 1024
            await asyncio.sleep(0.2)
        assert (await agent.call("GET", "/v1/health")).status == 200
        writer.transport.abort()


async def test_a_caller_that_goes_away_closes_the_connection(agent, kit, allow):
    asked, closed = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def wait(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        closed.set_result(None)

    async with raw_service(wait) as port:
        allow(port)
        _, writer = agent.open()
        token = kit.call_token(f"port:{port}")
        writer.write(f"GET / HTTP/1.1\r\nHost: x:{port}\r\nProxy-Authorization: Bearer {token}\r\n\r\n".encode())
        async with asyncio.timeout(30):
            await asked.wait()
            writer.transport.abort()
            await closed


async def test_a_caller_that_breaks_off_is_no_clean_end_to_the_service(agent, kit, allow):
    """A service that stores what it gets until the end must not take a part for the whole."""
    ending = asyncio.get_running_loop().create_future()

    async def store(reader, writer):
        assert await reader.readexactly(6) == b"a part"
        writer.write(b"got it")
        try:
            ending.set_result(await reader.read())
        except ConnectionResetError as error:
            ending.set_result(error)
        writer.close()

    async with raw_service(store) as port:
        allow(port)
        reader, writer = agent.open()
        writer.write(connect_head(port, kit.call_token(f"port:{port}")) + b"a part")
        await reader.readuntil(b"got it")
        writer.transport.abort()
        async with asyncio.timeout(30):
            assert isinstance(await ending, ConnectionResetError)


async def test_a_revocation_cuts_what_is_open(agent, kit, allow):
    async def wait(reader, writer):
        await reader.read()
        writer.close()

    async with raw_service(wait) as port:
        allow(port)
        reader, writer = agent.open()
        writer.write(connect_head(port, kit.call_token(f"port:{port}")))
        await reader.readuntil(b"\r\n\r\n")
        assert len(agent.watch) == 1
        assert agent.watch.cut(lambda claims: None) == []
        assert len(agent.watch.cut(lambda claims: TrustVerdict(False, "token", claims.token_id))) == 1
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        assert len(agent.watch) == 0


@contextlib.asynccontextmanager
async def tunnel(agent):
    """A socket whose bytes go through a stream of the link, for clients that want a socket."""
    done = set()

    async def relay(reader, writer):
        stream_reader, stream_writer = agent.open()

        async def pump(source, sink):
            with contextlib.suppress(ConnectionError, ChannelError):
                while chunk := await source.read(65536):
                    sink.write(chunk)
                    await sink.drain()
            sink.close()

        tasks = [asyncio.ensure_future(pump(reader, stream_writer)), asyncio.ensure_future(pump(stream_reader, writer))]
        done.update(tasks)
        await asyncio.wait(tasks)

    async with raw_service(relay) as port:
        yield port
        if done:
            await asyncio.wait(done)


async def test_a_websocket_passes(agent, kit, service, allow):
    allow(service)
    headers = {"Proxy-Authorization": f"Bearer {kit.call_token(f'port:{service}')}", "Host": f"vm-1:{service}"}
    payloads = [b"", b"x", os.urandom(200_000)]
    async with tunnel(agent) as port, aiohttp.ClientSession() as session:
        async with session.ws_connect(f"http://127.0.0.1:{port}/ws", headers=headers) as websocket:
            for payload in payloads:
                await websocket.send_bytes(payload)
                assert (await websocket.receive()).data == payload
        assert websocket.close_code == 1000


async def test_an_upgrade_that_is_refused_passes_nothing_behind_it(agent, kit, service, allow):
    allow(service)
    token = kit.call_token(f"port:{service}")
    raw = (
        f"GET /ws?refuse HTTP/1.1\r\nHost: x:{service}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Proxy-Authorization: Bearer {token}\r\n\r\nGET /evil HTTP/1.1\r\nHost: x\r\n\r\n"
    ).encode()
    reader, writer = agent.open()
    writer.write(raw)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 403")
    assert await reader.readexactly(2) == b"no"
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 9\r\n\r\ntoo large"


def break_off_with_an_answer(listening):
    """Answer the connection that waits, and close it with its request unread."""
    connection, _ = listening.accept()
    with connection:
        assert connection.recv(1, socket.MSG_PEEK) == b"P"
        connection.send(TOO_LARGE)


async def test_an_answer_is_read_although_the_request_can_be_written_no_further(until):
    head = parse_request_head(b"POST / HTTP/1.1\r\nHost: vm-1:8000\r\nContent-Length: 100000\r\n\r\n")
    pair = LinkPair(lambda stream: ForwardedExchange(stream, head, NoOwner()))
    caller = open_recorder(pair.client)
    caller.stream.write(b"x")
    await until(lambda: bool(pair.server_owner.handlers))
    (exchange,) = pair.server_owner.handlers
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: ServiceConnection(exchange), *listening.getsockname()
        )
        break_off_with_an_answer(listening)
        transport.write(b"x" * 1000)
        await caller.over
    assert caller.received == TOO_LARGE
    assert caller.calls[-1] == "lost", "whether there would have been more is not known"
    await pair.close()


class StuckService(asyncio.Transport):
    """Takes nothing, and says nothing either."""

    aborted = False

    def write(self, data):
        pass

    def write_eof(self):
        pass

    def get_write_buffer_size(self):
        return 1000

    def is_closing(self):
        return False

    def close(self):
        pass

    def abort(self):
        self.aborted = True


class NoOwner:
    """Lets an exchange have its way."""

    patience = Patience(taking_seconds=120.0, goodbye_seconds=120.0)

    def progressed(self, exchange, *, waiting):
        pass

    def passed(self, *, to_service=0, from_service=0):
        pass

    def ended(self, exchange, stream, *, peer_ended):
        pass


@in_virtual_time
async def test_a_service_that_takes_nothing_of_the_last_bytes_is_given_up():
    head = parse_request_head(b"CONNECT vm-1:22 HTTP/1.1\r\nHost: vm-1:22\r\n\r\n")
    pair = LinkPair(lambda stream: ForwardedExchange(stream, head, NoOwner()))
    caller = open_recorder(pair.client)
    caller.stream.write(b"x" * 1000, end=True)
    await asyncio.sleep(1)
    (exchange,) = pair.server_owner.handlers
    service = StuckService()
    exchange.connected(service)
    exchange.service_ended()
    await asyncio.sleep(NoOwner.patience.taking_seconds - 1)
    assert caller.calls[-1] == "end", "for the caller it is over"
    assert not service.aborted
    await asyncio.sleep(2)
    assert service.aborted
    exchange.service_lost(None)
    await pair.close()
