"""`/api/2.0/revocations`: ending tokens, nodes, certificates and workspaces before their time."""

import re
from typing import Any, Literal

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.adoption import Ended, adoption_of
from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext
from control_plane.api.pages import PageQuery
from control_plane.api.requests import OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import conflict, invalid, not_found
from control_plane.identity.endings import LONGEST_ISSUED_SECONDS
from control_plane.identity.own_identity import OwnIdentity
from control_plane.identity.trust_followers import TrustFollowers
from control_plane.storage import certificates, revocations
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.trust import Revocation

PATH = "/api/2.0/revocations"

Kind = Literal["token", "node", "certificate", "workspace"]

_FORMS: dict[str, tuple[str, str]] = {
    "token": (r"[A-Za-z0-9._~-]{1,64}", "the token's jti"),
    "certificate": (r"[0-9a-f]{1,40}", "the certificate's serial number in lower-case hexadecimal"),
    "node": (r"nd-[a-z2-7]{20}", "the node's id, nd-…"),
    "workspace": (r"ws-[a-z2-7]{20}", "the workspace's id, ws-…"),
}


class NewRevocation(OperatorRequest):
    """What to revoke."""

    kind: Kind
    id: str = Field(max_length=64)


class RevocationQuery(PageQuery):
    """The filter of the list."""

    kind: Kind | None = None


class RevocationResource:
    """Revocations as operators see them."""

    def __init__(self, context: ApiContext, followers: TrustFollowers, own: OwnIdentity) -> None:
        self._context = context
        self._followers = followers
        self._own = own

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{kind}/{id}", Role.OPERATOR, self.get),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Revoke one thing, durably; the answer is the number of the trust document that says so."""
        body = await read_body(request, NewRevocation)
        name = checked_target(body.kind, body.id)
        refuse_serving(self._own, body.kind, name)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            sequence = await revocations.revoke(
                session,
                body.kind,
                name,
                expire_time=await _expire_time(session, body.kind, name, now),
                revoked_by=caller.actor.name,
                now_ms=int(now * 1000),
            )
            append(
                session,
                now,
                caller.actor,
                Happening(f"{body.kind}.revoke", resource=name, details={"sequence": sequence}),
            )
        await self._context.trust.refresh()
        return json_response({"sequence": sequence})

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List revocations in the order they were made."""
        query = read_query(request, RevocationQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            rows = await revocations.list_page(session, kind=query.kind, after=asked.after(int), most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.sequence,))
        return json_response({"revocations": [_view(row) for row in page]} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one revocation, with its adoption."""
        kind, name = request.match_info["kind"], request.match_info["id"]
        name = _normal(kind, name)
        async with self._context.database.read() as session:
            row = await revocations.find(session, kind, name)
            if row is None:
                raise not_found("revocation", PATH)
            ended = Ended("revocation", row.kind, row.id, row.sequence, row.creation_time)
            adoption = await adoption_of(session, ended, self._followers)
        return json_response(_view(row) | {"adoption": adoption})


def checked_target(kind: Kind, name: str) -> str:
    """Return the id of what is to be revoked or locked, in the form that trust documents have it.

    Raises:
        ApiError: it cannot be the id of such a thing.
    """
    form, words = _FORMS[kind]
    name = _normal(kind, name)
    if re.fullmatch(form, name) is None:
        raise invalid("id", f"must be {words}")
    return name


def refuse_serving(own: OwnIdentity, kind: Kind, name: str) -> None:
    """Refuse to end the certificate that files give this control plane: no relay and no agent would speak to it.

    Its own SVID is another matter: the control plane makes itself another one.

    Raises:
        ApiError: it is that.
    """
    if kind == "certificate" and name == own.serial_of_files:
        raise conflict(
            "the control plane serves with this certificate: put another into the files of [tls], send SIGHUP, "
            "and then end this one"
        )


def _normal(kind: str, name: str) -> str:
    return name.lower().removeprefix("0x").lstrip("0") if kind == "certificate" else name


async def _expire_time(session: AsyncSession, kind: str, name: str, now: float) -> int | None:
    """Return until when the revocation matters: nodes and workspaces stay revoked for good."""
    if kind in ("node", "workspace"):
        return None
    certificate = await certificates.find(session, name) if kind == "certificate" else None
    return certificate.expire_time if certificate is not None else int((now + LONGEST_ISSUED_SECONDS) * 1000)


def _view(row: Revocation) -> dict[str, Any]:
    view: dict[str, Any] = {
        "kind": row.kind,
        "id": row.id,
        "sequence": row.sequence,
        "creation_time": row.creation_time,
        "revoked_by": row.revoked_by,
    }
    return view if row.expire_time is None else view | {"expire_time": row.expire_time}
