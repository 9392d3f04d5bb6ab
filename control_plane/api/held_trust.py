"""Handing a trust document back to a control plane that forgot it; see `control_plane.identity.trust_recovery`."""

from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import Field

from certs.trust import MAX_DOCUMENT_BYTES
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.requests import MachineRequest, read_body
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, ErrorCode
from control_plane.identity.trust_recovery import TrustRecovery

LARGEST_BODY_BYTES = MAX_DOCUMENT_BYTES + 4096


class HeldDocument(MachineRequest):
    """The body: the document as it was signed."""

    trust_document: str = Field(max_length=MAX_DOCUMENT_BYTES)


class HeldTrustResource:
    """Takes documents back from relays and nodes."""

    def __init__(self, context: ApiContext, recovery: TrustRecovery, follow: Callable[[], Awaitable[None]]) -> None:
        """Prepare; `follow` takes up what was taken back, and publishes it."""
        self._context = context
        self._recovery = recovery
        self._follow = follow
        self._holders: set[str] = set()

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", "/api/2.0/trust-document/held", Role.RELAY, self.take),
            Route("POST", "/api/2.0/nodes/self/held-trust-document", Role.NODE, self.take, while_locked=True),
        ]

    async def take(self, request: web.Request, caller: Caller) -> web.Response:
        """Take back what the document says; one that is known changes nothing.

        Documents are long: of one holder there is one at a time, whatever it sends, and however slowly.
        """
        if caller.subject_id in self._holders:
            message = "the document that is being handed over in this name comes first"
            raise ApiError(ErrorCode.RESOURCE_EXHAUSTED, message, retry_after_seconds=1)
        self._holders.add(caller.subject_id)
        try:
            body = await read_body(request, HeldDocument, largest_bytes=LARGEST_BODY_BYTES)
            recovered = await self._recovery.take_back(body.trust_document, caller.actor)
        finally:
            self._holders.discard(caller.subject_id)
        if recovered.sequence is not None:
            await self._follow()
        return json_response({"sequence": self._context.trust.sequence})
