"""Bodies that are read whole, of which there is room for a few long ones at a time.

A body may have megabytes, and a link thousands of streams. So whoever has more than `SHORT_BODY_BYTES` to say waits
until there is room, within the time that it has.
"""

import asyncio
from collections.abc import AsyncIterable

from aiohttp import web

from node_agent.api.routing import ApiRefused

SHORT_BODY_BYTES = 64 * 1024
MOST_LONG_BODIES = 16
MAX_BODY_BYTES = 8 * 1024 * 1024

LONG_BODIES = web.AppKey("long_bodies", asyncio.Semaphore)
"""The room for long bodies, of an application."""


async def read_body(
    request: web.Request, chunks: AsyncIterable[bytes] | None = None, *, largest_bytes: int = MAX_BODY_BYTES
) -> bytes:
    """Return the body of a request, read to its end; `chunks` brings it, if not the request itself.

    Raises:
        ApiRefused: it is longer than `largest_bytes`.
    """
    room, content, long = request.app[LONG_BODIES], bytearray(), False
    try:
        async for chunk in request.content.iter_any() if chunks is None else chunks:
            content += chunk
            if len(content) > largest_bytes:
                raise ApiRefused(413, "BAD_REQUEST", f"the body is too large: it may have {largest_bytes} bytes")
            if not long and len(content) > SHORT_BODY_BYTES:
                await room.acquire()
                long = True
        return bytes(content)
    finally:
        if long:
            room.release()
