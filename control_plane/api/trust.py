"""`/api/2.0/trust-document`: the signed document for whoever asks, and a held-open feed of it for relays.

The feed is `text/event-stream` (WHATWG HTML section 9.2): the document at once and after every change, and a heartbeat
each second, so that a relay knows within seconds that it is cut off. A relay that does not read is dropped.
"""

import asyncio

from aiohttp import web

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, ErrorCode
from control_plane.metrics import ControlPlaneMetrics

HEARTBEAT_SECONDS = 1.0
WRITE_SECONDS = 10.0
MOST_FEEDS = 1024


class TrustResource:
    """The trust document."""

    def __init__(self, context: ApiContext, metrics: ControlPlaneMetrics, draining: asyncio.Event) -> None:
        self._context = context
        self._metrics = metrics
        self._draining = draining
        self._feeds = 0

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", "/api/2.0/trust-document", Role.PUBLIC, self.get),
            Route("GET", "/api/2.0/trust-document/events", Role.RELAY, self.follow),
        ]

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the current document."""
        return json_response({"trust_document": self._context.trust.text})

    async def follow(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stream the document until the relay goes or the control plane drains."""
        if self._feeds >= MOST_FEEDS:
            raise ApiError(
                ErrorCode.RESOURCE_EXHAUSTED, "too many relays follow the trust document", retry_after_seconds=5
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        self._feeds += 1
        self._metrics.trust_feeds.set(self._feeds)
        try:
            await response.prepare(request)
            await self._feed(response)
        except TimeoutError:
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._feeds -= 1
            self._metrics.trust_feeds.set(self._feeds)
        return response

    async def _feed(self, response: web.StreamResponse) -> None:
        sent = ""
        trust = self._context.trust
        while not self._draining.is_set():
            text = trust.text
            event = f"event: heartbeat\ndata: {trust.sequence}\n\n"
            if text != sent:
                event = f"event: trust_document\ndata: {text}\n\n"
                sent = text
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(event.encode())
            await self._pause(sent)

    async def _pause(self, sent: str) -> None:
        """Wait until there is something to say: another document, a heartbeat, or that this is the end."""
        waits = (
            asyncio.ensure_future(self._context.trust.wait_for_change(sent, HEARTBEAT_SECONDS)),
            asyncio.ensure_future(self._draining.wait()),
        )
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
