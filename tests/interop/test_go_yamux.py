"""The real Go library, hashicorp/yamux, in both roles: HTTP, bulk both ways, half-close, reset, ping, goodbye."""

import asyncio
import hashlib
import random

import pytest
from aiohttp import web

from tests.support.foreign_peers import running_peer
from tests.support.http_over_stream import running_application, serve_stream
from tests.support.link_server import Echo
from trunkline.channel.fields import Framing
from trunkline.channel.heads import parse_response_head
from trunkline.channel.session import Role
from trunkline.channel.stream_transport import open_stream_pair

# The first one has the Go peer compiled, and with it, once on a machine, all that it needs of Go's own library.
pytestmark = [pytest.mark.interop, pytest.mark.timeout(300)]

ROLES = [(Role.CLIENT, "server"), (Role.SERVER, "client")]
MEGABYTE = 1_000_000


def request(method, path, body=b""):
    head = f"{method} {path} HTTP/1.1\r\nHost: node.test\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def exchange(link, content):
    """One exchange as a relay does it: the response's own framing ends it, and then this side ends the stream.

    Waiting for the server's FIN is not enough: until the caller ends, a Go server may sit in its background read, which
    a deadline does not wake in the older versions of the library.
    """
    reader, writer = open_stream_pair(link.open())
    writer.write(content)
    head = parse_response_head(await reader.readuntil(b"\r\n\r\n"), request_method=b"POST")
    body = await (
        dechunked(reader) if head.framing is Framing.CHUNKED else reader.readexactly(head.content_length or 0)
    )
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    return head.status, body


async def dechunked(reader):
    pieces = []
    while size := int(await reader.readline(), 16):
        pieces.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(pieces)


async def echo(link, data):
    """Send the data, end, and read until the peer ends."""
    reader, writer = open_stream_pair(link.open())
    writer.write(data)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_an_ordinary_go_http_server_is_a_listener(go_peer, meeting):
    async with meeting(Role.CLIENT) as (path, link_of_peer), running_peer([go_peer, path, "server", "serve"]) as peer:
        link = await link_of_peer()
        await peer.wait_for("up")
        answers = await asyncio.gather(*(exchange(link, request("GET", "/hello")) for _ in range(100)))
        assert set(answers) == {(200, b"hello from node.test via HTTP/1.1")}
        body = random.Random(1).randbytes(10 * MEGABYTE)
        assert await exchange(link, request("POST", "/echo", body)) == (200, body)
        assert link.streams == 0


async def test_a_go_handler_is_cancelled_when_the_stream_is_reset(go_peer, meeting):
    async with meeting(Role.CLIENT) as (path, link_of_peer), running_peer([go_peer, path, "server", "serve"]) as peer:
        link = await link_of_peer()
        reader, writer = open_stream_pair(link.open())
        writer.write(request("GET", "/cancelled"))
        await reader.readuntil(b"\r\n\r\n")
        await peer.wait_for("waiting")
        writer.transport.abort()
        await peer.wait_for("cancelled")


@pytest.mark.parametrize(("role", "peer_role"), ROLES)
async def test_a_hundred_streams_and_ten_megabytes_are_echoed_by_go(go_peer, meeting, role, peer_role):
    async with meeting(role) as (path, link_of_peer), running_peer([go_peer, path, peer_role, "echo"]) as peer:
        link = await link_of_peer()
        await peer.wait_for("up")
        randomness = random.Random(2)
        small = [randomness.randbytes(10_000 + n) for n in range(100)]
        assert await asyncio.gather(*(echo(link, data) for data in small)) == small
        large = randomness.randbytes(10 * MEGABYTE)
        assert hashlib.sha256(await echo(link, large)).digest() == hashlib.sha256(large).digest()
        assert await link.ping() > 0
        assert link.streams == 0
        link.go_away()
        link.close()
        await peer.wait_for("ended")
        assert await peer.wait_for_end() == 0


@pytest.mark.parametrize(("role", "peer_role"), ROLES)
@pytest.mark.parametrize(("count", "size"), [(100, 10_000), (1, 10 * MEGABYTE), (4, MEGABYTE)])
async def test_go_opens_streams_that_are_echoed_here(go_peer, meeting, role, peer_role, count, size):
    command = [go_peer, None, peer_role, "drive", str(count), str(size)]
    async with meeting(role, Echo) as (path, link_of_peer):
        command[1] = path
        async with running_peer(command) as peer:
            link = await link_of_peer()
            assert await peer.wait_for("drove") == f"drove {count} {size} true"
            assert await peer.wait_for_end() == 0
            await link.closed


async def test_an_ordinary_go_http_client_calls_an_application_here(go_peer, meeting):
    async def answer(request):
        return web.Response(body=await request.read())

    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/echo", answer)
    async with (
        running_application(application) as server,
        meeting(Role.SERVER, lambda stream: serve_stream(stream, server)) as (path, link_of_peer),
    ):
        for count, size in ((100, 10_000), (2, 5 * MEGABYTE)):
            async with running_peer([go_peer, path, "client", "fetch", str(count), str(size)]) as peer:
                link = await link_of_peer()
                assert await peer.wait_for("fetched") == f"fetched {count} {size}"
                assert await peer.wait_for_end() == 0
                await link.closed


async def test_a_go_peer_that_leaves_ends_its_streams_and_the_link(go_peer, meeting):
    echoes = []

    def serve(stream):
        echoes.append(Echo(stream))
        return echoes[-1]

    async with meeting(Role.SERVER, serve) as (path, link_of_peer):
        async with running_peer([go_peer, path, "client", "reset", "1", "100000"]) as peer:
            link = await link_of_peer()
            await peer.wait_for("wrote")
            await link.closed
            assert await peer.wait_for_end() == 0
        assert link.lost
        assert len(echoes) == 1
