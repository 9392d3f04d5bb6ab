"""What a web page of somewhere else can make a browser send, that has the local proxy for its proxy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest

from trunkline.channel.heads import parse_request_head
from trunkline.cli.foreign_pages import ForeignPage, TunnelledRequest, of_foreign_page
from trunkline.cli.local_proxy import LocalProxy
from trunkline.client.control_plane import ControlPlane

NODE = b"vm-1.main.trunk.internal"


def head(site: bytes, fields: bytes = b"", method: bytes = b"POST") -> bytes:
    return b"%b http://%b/kill HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (method, site, site, fields)


@pytest.mark.parametrize(
    ("site", "origin", "foreign"),
    [
        (NODE, b"https://evil.example", True),
        (NODE, b"null", True),
        (NODE, b"http://vm-2.main.trunk.internal", True),
        (NODE, b"http://%b:8080" % NODE, True),
        (NODE, b"https://%b" % NODE, True),
        (NODE, b"http://%b.evil.example" % NODE, True),
        (NODE, b"", True),
        (NODE, b"http://%b" % NODE, False),
        (NODE + b":80", b"http://%b" % NODE, False),
        (NODE + b":4040", b"http://%b:4040" % NODE, False),
        (NODE + b":4040", b"http://%b" % NODE, True),
    ],
)
def test_the_origin_is_the_one_that_is_asked_or_foreign(site: bytes, origin: bytes, foreign: bool) -> None:
    """No browser says Sec-Fetch-Site to a node: it is neither https nor an address of this machine."""
    assert of_foreign_page(parse_request_head(head(site, b"Origin: %b\r\n" % origin))) is foreign


def test_who_is_no_browser_says_no_origin() -> None:
    assert not of_foreign_page(parse_request_head(head(NODE)))
    assert not of_foreign_page(parse_request_head(head(NODE, b"Sec-Fetch-Site: same-origin\r\n")))
    assert of_foreign_page(parse_request_head(head(NODE, b"Sec-Fetch-Site: cross-site\r\n")))


WEBSOCKET = b"GET /kernel HTTP/1.1\r\nHost: %b:8888\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" % NODE
FOREIGN = WEBSOCKET + b"Origin: http://evil.example\r\n\r\n"
OWN = WEBSOCKET + b"Origin: http://%b:8888\r\n\r\n" % NODE


async def taken(*pieces: bytes, early: bytes = b"") -> bytes:
    """All that comes out of a tunnel's beginning, read as it comes; `early` came with the CONNECT."""
    reader = asyncio.StreamReader()
    request = TunnelledRequest(reader, early)
    out = b""

    async def feed() -> None:
        for piece in pieces:
            reader.feed_data(piece)
            await asyncio.sleep(0)
        reader.feed_eof()

    feeding = asyncio.create_task(feed())
    try:
        while piece := await request.read(65_536):
            out += piece
    finally:
        await feeding
    return out


@pytest.mark.parametrize("at", [0, 1, 3, 30, len(FOREIGN) - 1])
async def test_a_websocket_of_another_site_goes_no_further(at: int) -> None:
    with pytest.raises(ForeignPage, match="another site"):
        await taken(FOREIGN[:at], FOREIGN[at:]) if at else await taken(FOREIGN)
    with pytest.raises(ForeignPage, match="another site"):
        await taken(FOREIGN[at:], early=FOREIGN[:at]) if at else await taken(early=FOREIGN)


@pytest.mark.parametrize(
    "sent",
    [
        OWN,
        OWN + b"more",
        b"",
        b"G",
        b"GET",
        b"GET / HTTP/1.1\r\n",
        b"SSH-2.0-x\r\n",
        b"\x16\x03\x01",
        b"GET \0\r\n\r\n",
    ],
)
async def test_what_else_goes_into_a_tunnel_is_whole(sent: bytes) -> None:
    assert await taken(sent) == sent
    assert await taken(*[sent[at : at + 1] for at in range(len(sent))]) == sent
    assert await taken(sent[3:], early=sent[:3]) == sent


@pytest.mark.parametrize("sent", [b"GET key\r\n", b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.1\n"])
async def test_a_get_that_no_browser_sends_waits_for_nothing(sent: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(sent)
    async with asyncio.timeout(30):
        assert await TunnelledRequest(reader).read(65_536) == sent


async def test_a_beginning_that_could_become_a_head_is_not_held_for_ever() -> None:
    sent = b"GET " + b"x" * 100_000
    assert await taken(sent[:30_000], sent[30_000:60_000], sent[60_000:]) == sent


class OpenPort:
    """A node on which somebody keeps what is sent to a port, and a control plane that has no other."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()
        self._server: asyncio.Server | None = None

    def node(self, workspace: str, name: str) -> OpenPort:
        return self

    async def open_connection(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._server is not None
        return await asyncio.open_connection(*self._server.sockets[0].getsockname())

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        proxy = LocalProxy(cast(ControlPlane, self), "main", "trunk.internal")

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(ForeignPage):
                await proxy.serve(reader, writer)

        async with (
            await asyncio.start_server(self._keep, "127.0.0.1", 0) as self._server,
            await asyncio.start_server(serve, "127.0.0.1", 0) as local,
        ):
            yield local.sockets[0].getsockname()[1]

    async def _keep(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(4096):
                self.received += piece
                writer.write(piece)
        except ConnectionResetError:
            pass
        self.ended.set()
        writer.close()


async def tunnel(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"CONNECT %b:8888 HTTP/1.1\r\nHost: %b:8888\r\n\r\n" % (NODE, NODE))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return reader, writer


async def test_through_the_proxy_a_foreign_websocket_is_cut_and_the_nodes_own_is_not() -> None:
    node = OpenPort()
    async with node.open() as port:
        reader, writer = await tunnel(port)
        writer.write(OWN)
        assert await reader.readexactly(len(OWN)) == OWN
        writer.close()
        await node.ended.wait()
        node.ended.clear()
        reader, writer = await tunnel(port)
        writer.write(FOREIGN)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        await node.ended.wait()
        assert node.received == OWN
        writer.close()
