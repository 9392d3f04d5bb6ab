"""The far end of a sender's link, in memory: it answers each stream as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.memory_transport import memory_pair
from trunkline.channel.errors import ChannelError, ConnectionLost
from trunkline.channel.heads import RequestHead, parse_request_head
from trunkline.channel.link import Link, LinkOwner, LinkStream, Role, StreamHandler
from trunkline.channel.stream_transport import open_stream_pair


@dataclass
class CannedCall:
    """One stream that the sender opened."""

    head: RequestHead
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def answer(self, raw: bytes) -> None:
        self.writer.write(raw)

    def reset(self) -> None:
        self.writer.transport.abort()


Answering = Callable[[CannedCall], Awaitable[None]]


@dataclass
class CannedRelay:
    """Serves every link that `dial` opens with the same function."""

    answering: Answering
    links: list[Link] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    refusals: list[ChannelError] = field(default_factory=list)
    calls: set[asyncio.Task[None]] = field(default_factory=set)
    cancelled: int = 0
    down: bool = False
    dial_seconds: float = 0.0

    async def dial(self, owner: LinkOwner, token: str | None) -> Link:
        """What a sender dials with."""
        self.tokens.append(token)
        if self.dial_seconds:
            await asyncio.sleep(self.dial_seconds)
        if self.down:
            raise ConnectionLost("connection refused")
        if self.refusals:
            raise self.refusals.pop(0)
        loop = asyncio.get_running_loop()
        near, far = memory_pair(loop)
        link, peer = Link(Role.CLIENT, owner, loop=loop), Link(Role.SERVER, self, loop=loop)
        near.start(link)
        far.start(peer)
        self.links.append(peer)
        return link

    async def close(self) -> None:
        for task in self.calls:
            task.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)
        for link in self.links:
            link.abort()
            await link.closed

    # As the owner of its links

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        reader, writer = open_stream_pair(stream)
        task = asyncio.ensure_future(self._serve(reader, writer))
        self.calls.add(task)
        task.add_done_callback(self.calls.discard)
        return stream.handler

    def go_away_received(self, link: Link, code: int) -> None:
        pass

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        pass

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = parse_request_head(await reader.readuntil(b"\r\n\r\n"))
            await self.answering(CannedCall(head, reader, writer))
            writer.close()
        except ConnectionError:
            self.cancelled += 1
