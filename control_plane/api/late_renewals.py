"""`…/late-renewal` of nodes and relays: how those come back whose certificate expired while they were off."""

from aiohttp import web
from pydantic import Field

from control_plane.api.bootstrap import LARGEST_BODY_BYTES, Csr
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.pair_answers import pair_answer
from control_plane.api.requests import MachineRequest, Text, read_body
from control_plane.api.responses import json_response
from control_plane.identity.late_renewals import LateRenewals
from control_plane.identity.relay_late_renewals import RelayLateRenewals

LARGEST_REQUEST_BYTES = 4096


class LateRenewalBody(MachineRequest):
    """The body of a late renewal: a request as `certs.late_renewal` makes it, and the signing request it is for."""

    request: str = Field(min_length=1, max_length=LARGEST_REQUEST_BYTES)
    csr: Csr
    agent_version: Text = Field(max_length=64)


class RelayLateRenewalBody(MachineRequest):
    """The same of a relay."""

    request: str = Field(min_length=1, max_length=LARGEST_REQUEST_BYTES)
    csr: Csr


class LateRenewalResource:
    """Late renewals, of anybody who holds the key."""

    def __init__(self, context: ApiContext, late_renewals: LateRenewals, of_relays: RelayLateRenewals) -> None:
        self._context = context
        self._late_renewals = late_renewals
        self._of_relays = of_relays

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", "/api/2.0/nodes/late-renewal", Role.PUBLIC, self.renew),
            Route("POST", "/api/2.0/relays/late-renewal", Role.PUBLIC, self.renew_relay),
        ]

    async def renew(self, request: web.Request, caller: Caller) -> web.Response:
        """Decide about a node that was off for long."""
        body = await read_body(request, LateRenewalBody, largest_bytes=LARGEST_BODY_BYTES)
        pair = await self._late_renewals.decide(body.request, body.csr, body.agent_version, caller.actor)
        return await pair_answer(self._context, pair)

    async def renew_relay(self, request: web.Request, caller: Caller) -> web.Response:
        """Decide about a relay that was off for long."""
        body = await read_body(request, RelayLateRenewalBody, largest_bytes=LARGEST_BODY_BYTES)
        chain = await self._of_relays.decide(body.request, body.csr, caller.actor)
        return json_response({"certificate_chain": chain, "trust_document": self._context.trust.text})
