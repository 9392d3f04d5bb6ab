"""Two links joined by a socket pair, for tests that want a real transport and no TLS."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link, LinkStream, StreamHandler
from trunkline.channel.session import Role


class Owner:
    """Owns a link: offers streams to `serve`, or resets them, and remembers how the link ended."""

    def __init__(self, serve: Callable[[LinkStream], StreamHandler | None] = lambda stream: None) -> None:
        self._serve = serve
        self.go_aways: list[int] = []
        self.losses: list[ChannelError | None] = []

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        return self._serve(stream)

    def go_away_received(self, link: Link, code: int) -> None:
        self.go_aways.append(code)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        self.losses.append(error)


@asynccontextmanager
async def link_pair(
    serve: Callable[[LinkStream], StreamHandler | None], **options: Any
) -> AsyncIterator[tuple[Link, Link]]:
    """A client link, and a server link whose streams go to `serve`; `options` go to both."""
    loop = asyncio.get_running_loop()
    client = Link(Role.CLIENT, Owner(), loop=loop, **options)
    server = Link(Role.SERVER, Owner(serve), loop=loop, **options)
    for link, end in zip((client, server), socket.socketpair(), strict=True):
        end.setblocking(False)
        await loop.create_connection(lambda link=link: link, sock=end)  # type: ignore[misc]
    try:
        yield client, server
    finally:
        for link in (client, server):
            link.abort()
            await link.closed
