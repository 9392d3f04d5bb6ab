"""Relays: as operators see them, and what relays call for themselves."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field

from certs.authority import MAX_DNS_NAMES, checked_dns_names
from certs.errors import CertificateError
from control_plane.api.bootstrap import LARGEST_BODY_BYTES, Csr, NothingFromMachine, RenewalBody
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account
from control_plane.api.join_tokens import LONGEST_LIFE_SECONDS
from control_plane.api.pages import PageQuery
from control_plane.api.requests import MachineRequest, Name, Nothing, OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import not_found
from control_plane.identity.endings import end_relay
from control_plane.identity.enrolment import Enrolment
from control_plane.identity.renewals import Renewals
from control_plane.names import new_id
from control_plane.storage import join_tokens, relays
from control_plane.storage.accounts import token_hash
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.relays import Relay, RelayJoinToken

PATH = "/api/2.0/accounts/{account}"


def _dns_name(name: str) -> str:
    try:
        checked_dns_names([name])
    except CertificateError:
        raise ValueError("must be a lower-case DNS name, whose first label may be *") from None
    return name


def _dns_names(names: list[str]) -> list[str]:
    if names[0].startswith("*."):
        raise ValueError("the first is the relay's address, and must not be a wildcard: put the wildcard after it")
    return list(checked_dns_names(names))


DnsName = Annotated[str, AfterValidator(_dns_name)]


class NewRelayJoinToken(OperatorRequest):
    """Leave for one relay; its serving certificate will carry these DNS names, the first is its address."""

    name: Name
    dns_names: Annotated[list[DnsName], Field(min_length=1, max_length=MAX_DNS_NAMES), AfterValidator(_dns_names)]
    lifetime_seconds: int = Field(ge=1, le=LONGEST_LIFE_SECONDS)


class EnrolmentBody(MachineRequest):
    """The body of an enrolment."""

    join_token: str = Field(min_length=1, max_length=256)
    csr: Csr
    name: str = Field(max_length=64)


class PlaceBody(MachineRequest):
    """Where the relay listens."""

    port: int = Field(ge=1, le=65535)


class RelayResource:
    """Relays."""

    def __init__(self, context: ApiContext, enrolment: Enrolment, renewals: Renewals) -> None:
        self._context = context
        self._enrolment = enrolment
        self._renewals = renewals

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", PATH + "/relays", Role.OPERATOR, self.list, query=True),
            Route("DELETE", PATH + "/relays/{relay_id}", Role.OPERATOR, self.delete),
            Route("POST", PATH + "/relay-join-tokens", Role.OPERATOR, self.create_join_token),
            Route("POST", "/api/2.0/relays/enrol", Role.PUBLIC, self.enrol),
            Route("PUT", "/api/2.0/relays/self", Role.RELAY, self.place),
            Route("POST", "/api/2.0/relays/self/renew", Role.RELAY, self.renew),
            Route("POST", "/api/2.0/relays/self/confirm", Role.RELAY, self.confirm),
        ]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List relays by id."""
        check_account(self._context, request)
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            rows = await relays.list_page(session, after=asked.after(str), most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.relay_id,))
        return json_response({"relays": [_view(row) for row in page]} | next_page)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Take a relay out of service and revoke its identity."""
        check_account(self._context, request)
        await read_body(request, Nothing)
        relay_id = request.match_info["relay_id"]
        async with self._context.database.write() as session:
            relay = await relays.find(session, relay_id) or await relays.find_by_name(session, relay_id)
            if relay is None:
                raise not_found("relay", f"/api/2.0/accounts/{self._context.account_id}/relays")
            await end_relay(session, relay, caller.actor, self._context.clock.now())
        await self._context.trust.refresh()
        return json_response({})

    async def create_join_token(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a single-use relay join token."""
        check_account(self._context, request)
        body = await read_body(request, NewRelayJoinToken)
        now = self._context.clock.now()
        token = join_tokens.new_token("tlr")
        async with self._context.database.write() as session:
            record = RelayJoinToken(
                join_token_id=new_id("rj"),
                token_sha256=token_hash(token),
                name=body.name,
                dns_names=body.dns_names,
                expire_time=int((now + body.lifetime_seconds) * 1000),
                creation_time=int(now * 1000),
            )
            session.add(record)
            details = {"dns_names": body.dns_names, "join_token_id": record.join_token_id}
            append(
                session, now, caller.actor, Happening("relay_join_token.create", resource=body.name, details=details)
            )
        return json_response({"join_token": token, "expire_time": record.expire_time}, 201)

    async def enrol(self, request: web.Request, caller: Caller) -> web.Response:
        """Decide about a machine that wants to be a relay."""
        body = await read_body(request, EnrolmentBody, largest_bytes=LARGEST_BODY_BYTES)
        relay, chain = await self._enrolment.decide(body.join_token, body.csr, body.name, caller.actor)
        return json_response(
            {
                "relay_id": relay.relay_id,
                "certificate_chain": chain,
                "trust_document": self._context.trust.text,
                "dns_names": relay.dns_names,
            }
        )

    async def place(self, request: web.Request, caller: Caller) -> web.Response:
        """Record on which port the relay is reached, and tell the nodes."""
        body = await read_body(request, PlaceBody, largest_bytes=LARGEST_BODY_BYTES)
        if await self._renewals.place_relay(caller.subject_id, body.port, caller.actor):
            await self._context.trust.refresh()
        return json_response({})

    async def renew(self, request: web.Request, caller: Caller) -> web.Response:
        """Issue the relay's next leaf."""
        body = await read_body(request, RenewalBody, largest_bytes=LARGEST_BODY_BYTES)
        chain = await self._renewals.renew_relay(caller.subject_id, caller.serial, body.csr, caller.actor)
        return json_response({"certificate_chain": chain})

    async def confirm(self, request: web.Request, caller: Caller) -> web.Response:
        """Take note that the relay holds the key of the certificate that it presents."""
        await read_body(request, NothingFromMachine, largest_bytes=LARGEST_BODY_BYTES)
        await self._renewals.confirm_relay(caller.subject_id, caller.serial, caller.actor)
        return json_response({})


def _view(relay: Relay) -> dict[str, Any]:
    view = {
        "relay_id": relay.relay_id,
        "name": relay.relay,
        "dns_names": relay.dns_names,
        "url": relay.url,
        "trust_sequence": relay.trust_sequence,
        "creation_time": relay.creation_time,
        "last_seen_time": relay.last_seen_time,
    }
    return {key: value for key, value in view.items() if value is not None}
