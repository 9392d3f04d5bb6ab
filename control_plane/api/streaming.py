"""Answers that are streamed: as fast as the caller reads, ended with the caller, and cut rather than ended falsely."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import web

from control_plane.errors import ApiError
from control_plane.storage.errors import StorageError
from trunkline.client.errors import TrunklineError

WRITE_SECONDS = 60.0
GONE_CHECK_SECONDS = 0.5


async def stream(request: web.Request, chunks: AsyncIterator[bytes], fields: Mapping[str, str]) -> web.StreamResponse:
    """Answer with what `chunks` yields; if it fails, the connection is cut, so that a part never looks like the whole.

    Raises:
        ConnectionResetError: the caller has gone, or the answer was cut.
    """
    response = web.StreamResponse(headers={**fields, "Cache-Control": "no-store"})
    await response.prepare(request)
    pump = asyncio.create_task(_pump(chunks, response), name="trunkline-stream")
    try:
        while not (await asyncio.wait([pump], timeout=GONE_CHECK_SECONDS))[0]:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
        pump.result()
    except (ApiError, TrunklineError, StorageError, OSError, TimeoutError):
        # The end must not look like the end of the content.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    finally:
        if not pump.done():
            pump.cancel()
            await asyncio.wait([pump])
    return response


async def _pump(chunks: AsyncIterator[bytes], response: web.StreamResponse) -> None:
    async for chunk in chunks:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(chunk)
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write_eof()
