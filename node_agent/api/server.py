"""The server of the agent's API: an aiohttp application on streams, each of which carries one exchange.

aiohttp serves any asyncio transport, so a stream needs no more than a `StreamTransport`. What has to be said is that a
handler is cancelled when its stream is reset or its link is lost, which aiohttp leaves out by default; and that nothing
lingers after the response, since the stream ends with it.
"""

import asyncio
import logging
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from node_agent.api.routing import CALLER
from node_agent.exchanges.callers import Caller
from trunkline.channel.fields import Field, end_to_end
from trunkline.channel.heads import RequestHead, write_request_head
from trunkline.channel.link import LinkStream
from trunkline.channel.stream_transport import StreamTransport
from trunkline.runtime.bounded_heads import BoundedHeads

KEEPALIVE_SECONDS = 75.0
CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
_TOKEN_FIELD = frozenset({b"proxy-authorization"})


class ApiServer:
    """Serves an application on streams. A caller that resets its stream has its handler cancelled."""

    def __init__(self, app: web.Application) -> None:
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=1.0, handler_cancellation=True
        )
        self._options: dict[str, Any] = {
            "access_log": None,
            "logger": logging.getLogger("node_agent.api"),
            "keepalive_timeout": KEEPALIVE_SECONDS,
            "lingering_time": 0.0,
            "max_line_size": 8190,
            "max_field_size": 32768,
        }
        self._loop = asyncio.get_running_loop()

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def serve(self, stream: LinkStream, head: RequestHead, leftover: bytes, caller: Caller) -> None:
        """Answer the exchange whose head has been read; the application never sees the token."""
        protocol = self._protocol()
        tunnel = head.method == b"CONNECT"
        if tunnel:
            stream.write(CONNECTED)
        transport = StreamTransport(self._loop, stream, protocol, extra={CALLER: caller})
        if not tunnel:
            protocol.data_received(_without_token(head))
        if leftover:
            transport.data_received(leftover)

    def _protocol(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the server is not open")
        return BoundedHeads(server, loop=self._loop, **self._options)


def _without_token(head: RequestHead) -> bytes:
    fields: list[Field] = end_to_end(head.fields, _TOKEN_FIELD)
    return write_request_head(head.method, head.target_origin, fields)
