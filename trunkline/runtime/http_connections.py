"""The connections of an HTTP server, each until its transport is gone.

aiohttp forgets a connection once it has closed it, and that may still hold the end of an answer, for as long as its
peer takes to read it. A process that ends then loses that end. So connections are kept here, and their end is in steps:
`finish_answers`, `none_left`, and for whoever has had its time, `close`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

from aiohttp import web

from trunkline.runtime.bounded_heads import BoundedHeads

CUT_SECONDS: Final = 0.1
"""What an answer that is still being made has, twice, before it is cancelled by `close`."""


class HttpConnections:
    """The connections of one application; `connection` makes their protocols."""

    def __init__(
        self, app: web.Application, *, gone: Callable[[asyncio.Transport], None] | None = None, **options: Any
    ) -> None:
        """Prepare it; `gone` is told of each transport's end, and `options` are those of aiohttp's connections."""
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=CUT_SECONDS)
        self._options = {"access_log": None, **options}
        self._gone = gone
        self._transports: dict[web.RequestHandler, asyncio.Transport] = {}
        self._none_left = asyncio.Event()
        self._none_left.set()
        self._finishing = False

    async def start(self) -> None:
        """Start the application."""
        await self._runner.setup()

    def __len__(self) -> int:
        return len(self._transports)

    @property
    def transports(self) -> list[asyncio.Transport]:
        """Those that are open, and those that are closing."""
        return list(self._transports.values())

    def connection(self) -> asyncio.Protocol:
        """The protocol for a new connection."""
        return _Connection(self, self._server, **self._options)

    def abort(self, connection: asyncio.Protocol) -> None:
        """End a connection at once, if it is there still."""
        transport = self._transports.get(cast(web.RequestHandler, connection))
        if transport is not None:
            transport.abort()

    async def finish_answers(self) -> None:
        """Close the connections, each behind the answer that it is at, however long that takes."""
        self._finishing = True
        self._server.pre_shutdown()
        await self._server.shutdown(None)

    async def none_left(self) -> None:
        """Wait until every transport is gone."""
        await self._none_left.wait()

    async def close(self) -> None:
        """Cut what is left."""
        self._finishing = True
        await self._runner.cleanup()
        for transport in self.transports:
            transport.abort()

    @property
    def _server(self) -> web.Server:
        assert self._runner.server is not None  # noqa: S101 - asked for before `start`, or after `close`
        return self._runner.server

    # What the connections tell.

    def made(self, connection: web.RequestHandler, transport: asyncio.Transport) -> None:
        """One is there; behind the end it has nothing to ask for."""
        self._transports[connection] = transport
        self._none_left.clear()
        if self._finishing:
            transport.abort()

    def lost(self, connection: web.RequestHandler) -> None:
        """One is gone."""
        transport = self._transports.pop(connection)
        if self._gone is not None:
            self._gone(transport)
        if not self._transports:
            self._none_left.set()


class _Connection(BoundedHeads):
    """One connection."""

    __slots__ = ("_connections",)

    def __init__(self, connections: HttpConnections, server: web.Server, **options: Any) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # Not every loop's transports are derived from asyncio.Transport.
        self._connections.made(self, cast(asyncio.Transport, transport))

    def force_close(self) -> None:
        """Close, unless that was done before: asyncio's TLS transports answer nothing any more once closed twice."""
        if self.transport is not None and self.transport.is_closing():
            self.transport = None
        super().force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._connections.lost(self)
