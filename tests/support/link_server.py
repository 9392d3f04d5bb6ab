"""A TLS server that grants link upgrades and nothing else: the other end for tests of dialling."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from websockets.protocol import Side

from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import parse_request_head
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, LinkStream, StreamHandler
from trunkline.channel.session import Role
from trunkline.channel.terms import OWN_TERMS, LinkTerms
from trunkline.channel.upgrade import Carrier, LinkRequest, accept_link, read_link_request
from trunkline.channel.websocket import WebSocketTransport


class Echo:
    """Sends back what a stream brings, within its room, and ends when the peer ends."""

    def __init__(self, stream: LinkStream) -> None:
        self._stream = stream
        self._waiting = bytearray()
        self._ended = False
        self._answered = False
        self.error: ChannelError | None = None

    def data_received(self, data: bytes | memoryview) -> None:
        self._waiting += data
        self.window_opened()

    def end_received(self) -> None:
        self._ended = True
        self.window_opened()

    def window_opened(self) -> None:
        while self._waiting and (room := self._stream.send_room_bytes):
            piece = bytes(self._waiting[:room])
            del self._waiting[:room]
            self._stream.write(piece)
            self._stream.consumed(len(piece))
        if self._ended and not self._waiting and not self._answered:
            self._answered = True
            self._stream.end()

    def stream_lost(self, error: ChannelError) -> None:
        self.error = error


@dataclass
class LinkServer:
    """What the server does and has seen."""

    refuse: Callable[[LinkRequest], bytes | None] = lambda request: None
    before_answer: Callable[[LinkRequest], Awaitable[None]] | None = None
    terms: LinkTerms = OWN_TERMS
    role: Role = Role.CLIENT
    url: str = ""
    port: int = 0
    requests: list[LinkRequest] = field(default_factory=list)
    peer_certificates: list[bytes | None] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)

    # As the owner of its links

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        return Echo(stream)

    def go_away_received(self, link: Link, code: int) -> None:
        pass

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        pass


class _Door(asyncio.Protocol):
    def __init__(self, server: LinkServer) -> None:
        self._server = server
        self._received = b""
        self._transport: asyncio.Transport | None = None
        self._answering: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, leftover = self._received.partition(b"\r\n\r\n")
        if end:
            request = read_link_request(parse_request_head(head + end))
            if self._server.before_answer is None:
                self._answer(request, leftover)
            else:
                self._answering = asyncio.ensure_future(self._answer_after(self._server.before_answer, request))

    async def _answer_after(self, before: Callable[[LinkRequest], Awaitable[None]], request: LinkRequest) -> None:
        await before(request)
        self._answer(request, b"")

    def _answer(self, request: LinkRequest, leftover: bytes) -> None:
        server, transport = self._server, self._transport
        assert transport is not None
        ssl_object = transport.get_extra_info("ssl_object")
        server.requests.append(request)
        server.peer_certificates.append(ssl_object.getpeercert(binary_form=True))
        refusal = server.refuse(request)
        if refusal is not None:
            transport.write(refusal)
            transport.close()
            return
        answer, terms = accept_link(request, "rq-test", server.terms)
        transport.write(answer)
        server.links.append(self._take_over(transport, request, terms, leftover))
        server.connected.set()

    def _take_over(self, transport: asyncio.Transport, request: LinkRequest, terms: LinkTerms, leftover: bytes) -> Link:
        window_bytes = terms.initial_window_bytes
        link = Link(
            self._server.role,
            self._server,
            loop=asyncio.get_running_loop(),
            limits=replace(Limits(), initial_window_bytes=window_bytes),
            send_window_bytes=window_bytes,
            compact=terms.compact,
        )
        if request.carrier is Carrier.YAMUX:
            link.adopt(transport, leftover)
        else:
            carrier = WebSocketTransport(transport, Side.SERVER)
            link.adopt(carrier)
            carrier.start(leftover)
        return link


@asynccontextmanager
async def link_server(context: ssl.SSLContext, **behaviour: object) -> AsyncIterator[LinkServer]:
    """A running server; `behaviour` sets fields of `LinkServer`."""
    server = LinkServer(**behaviour)  # type: ignore[arg-type]
    listening = await asyncio.get_running_loop().create_server(lambda: _Door(server), "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    server.url = f"https://localhost:{server.port}"
    try:
        yield server
    finally:
        listening.close()
        for link in server.links:
            link.abort()
            await link.closed
        await listening.wait_closed()
