"""`/api/2.0/trust-document`: the signed document for whoever asks, and a held-open feed of it for relays.

The feed is `text/event-stream` (WHATWG HTML section 9.2): the document at once and after every change, and a heartbeat
each second, so that a relay knows within seconds that it is cut off; with the heartbeats go the quotas of workspaces,
at first and when they have changed. They are for relays only, and so no part of the document. A relay that does not
read is dropped. One that holds a document which was never published here is answered 409: it is to hand that document
over first.
"""

import asyncio

from aiohttp import web
from pydantic import Field

from certs.trust_form import MAX_SEQUENCE
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.requests import MachineQuery, read_query
from control_plane.api.responses import json_body, json_body_response, json_response
from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.identity.trust_followers import TrustFollowers
from control_plane.identity.trust_recovery import TrustRecovery
from control_plane.storage import relays, revocations

HEARTBEAT_SECONDS = 1.0
WRITE_SECONDS = 10.0
SEEN_SECONDS = 600.0
MOST_FEEDS = 1024


class HeldQuery(MachineQuery):
    """What a relay or node says of the document that it holds."""

    sequence: int | None = Field(default=None, ge=1, le=MAX_SEQUENCE)
    fingerprint: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class TrustResource:
    """The trust document."""

    def __init__(
        self, context: ApiContext, followers: TrustFollowers, recovery: TrustRecovery, draining: asyncio.Event
    ) -> None:
        self._context = context
        self._followers = followers
        self._recovery = recovery
        self._draining = draining
        self._whole_of: tuple[str, bytes] = ("", b"")

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", "/api/2.0/trust-document", Role.PUBLIC, self.get),
            Route("GET", "/api/2.0/trust-document/events", Role.RELAY, self.follow),
        ]

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the current document, unless it is the one that is held."""
        trust = self._context.trust
        if read_query(request, HeldQuery).sequence == trust.sequence:
            return json_response({"sequence": trust.sequence})
        return json_body_response(self._whole())

    def _whole(self) -> bytes:
        """Return the answer that has the document; it is made once of each, which takes milliseconds of a large one."""
        trust = self._context.trust
        if self._whole_of[0] is not trust.text:
            self._whole_of = (trust.text, json_body({"sequence": trust.sequence, "trust_document": trust.text}))
        return self._whole_of[1]

    async def follow(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stream the document until the relay goes or the control plane drains."""
        if len(self._followers) >= MOST_FEEDS:
            raise ApiError(
                ErrorCode.RESOURCE_EXHAUSTED, "too many relays follow the trust document", retry_after_seconds=5
            )
        held = read_query(request, HeldQuery)
        if held.sequence and held.fingerprint and not await self._recovery.knows(held.sequence, held.fingerprint):
            raise conflict(f"the trust document {held.sequence} was not published here: hand it over")
        await self._context.quotas.refresh()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        with self._followers.following(caller.subject_id):
            try:
                await response.prepare(request)
                await self._feed(response, caller)
            except TimeoutError:
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
        return response

    async def _feed(self, response: web.StreamResponse, caller: Caller) -> None:
        sent = sent_quotas = ""
        trust, quotas = self._context.trust, self._context.quotas
        seen_at = -SEEN_SECONDS
        while not self._draining.is_set():
            if self._context.clock.monotonic() - seen_at >= SEEN_SECONDS:
                seen_at = self._context.clock.monotonic()
                await self._note_seen(caller.subject_id)
            text = trust.text
            event = f"event: heartbeat\ndata: {trust.sequence}\n\n"
            if text != sent:
                if await self._ended(caller):
                    return
                event = f"event: trust_document\ndata: {text}\n\n"
                sent = text
            if quotas.text != sent_quotas:
                sent_quotas = quotas.text
                event += f"event: quotas\ndata: {sent_quotas}\n\n"
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(event.encode())
            await self._pause(sent)

    async def _ended(self, caller: Caller) -> bool:
        """Tell whether the relay was deleted, or its certificate revoked, while it followed."""
        async with self._context.database.read() as session:
            revoked = await revocations.is_revoked(session, "certificate", caller.serial)
            return revoked or await relays.find(session, caller.subject_id) is None

    async def _note_seen(self, relay_id: str) -> None:
        """Keep a relay that follows among the living, also while it has nothing to report."""
        async with self._context.database.write() as session:
            await relays.note_seen(session, relay_id, self._context.now_ms())

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
