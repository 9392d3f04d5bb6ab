"""Answers in lines of JSON, for what takes its time: a line each while it lasts, so that nobody takes it for dead.

The last line is what would have been the answer, or `{"error": …}` in the form of the API's errors, with its status.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

BEAT_SECONDS = 5.0


class Lines:
    """One such answer. Until it is begun, what goes wrong can be answered as everywhere."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self.response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"})
        self.response.content_type = "application/x-ndjson"
        self.begun = False

    @contextlib.asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Begin the answer, and say `{}` now and then inside the block."""
        self.begun = True
        await self.response.prepare(self._request)
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def write(self, document: dict[str, Any]) -> None:
        """Send a line."""
        await self.response.write(json.dumps(document, separators=(",", ":")).encode() + b"\n")

    async def end(self, document: dict[str, Any]) -> web.StreamResponse:
        """Send the last line."""
        await self.write(document)
        await self.response.write_eof()
        return self.response

    async def _beat(self) -> None:
        with contextlib.suppress(OSError):  # the caller has gone, of which the handler hears too
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                await self.write({})
