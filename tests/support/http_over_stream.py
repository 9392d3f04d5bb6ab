"""An aiohttp application on streams, each of which carries one exchange; the agent's own is `node_agent.api.server`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from trunkline.channel.link_stream import LinkStream, StreamHandler
from trunkline.channel.stream_transport import StreamTransport

LARGEST_LINE_BYTES = 16_384
"""A request line or a field that the relay lets through (32 KiB of head in all) is not much longer."""
SHUTDOWN_SECONDS = 5.0


@asynccontextmanager
async def running_application(
    application: web.Application, *, shutdown_seconds: float = SHUTDOWN_SECONDS
) -> AsyncIterator[web.Server]:
    """Start an application; give what it is served with to `serve_stream`.

    Args:
        application: the application; its startup and cleanup hooks run.
        shutdown_seconds: how long handlers may go on at the end before they are cancelled.
    """
    runner = web.AppRunner(
        application,
        handle_signals=False,
        handler_cancellation=True,
        shutdown_timeout=shutdown_seconds,
        access_log=None,
        lingering_time=0.0,
        max_line_size=LARGEST_LINE_BYTES,
        max_field_size=LARGEST_LINE_BYTES,
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None
        yield server
    finally:
        await runner.cleanup()


def serve_stream(
    stream: LinkStream, protocol_factory: Callable[[], asyncio.BaseProtocol], *, extra: dict[str, Any] | None = None
) -> StreamHandler:
    """Let a protocol answer what a stream brings, and return the stream's handler, as `stream_offered` must.

    Args:
        stream: the stream that was offered.
        protocol_factory: makes the protocol; an aiohttp `web.Server` is one.
        extra: what handlers find with `request.get_extra_info`.
    """
    return StreamTransport(asyncio.get_running_loop(), stream, protocol_factory(), extra=extra)
