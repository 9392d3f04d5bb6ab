"""`/w/{workspace}/api/2.0/join-requests`: known machines that wait for an operator to let them in again."""

from typing import Any

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.attestation.join_approvals import APPROVED, APPROVED_SECONDS, DENIED, PENDING, PENDING_SECONDS
from control_plane.errors import conflict, not_found_in
from control_plane.storage import join_requests
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.joining import JoinRequest

PATH = "/w/{workspace}/api/2.0/join-requests"
KEPT_SECONDS = {APPROVED: APPROVED_SECONDS, DENIED: PENDING_SECONDS}


class JoinRequestQuery(PageQuery):
    """The filter of the list."""

    state: str | None = Field(default=None, pattern="^(pending|approved|denied)$")


class JoinRequestResource:
    """Join requests as operators see and decide them."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("POST", PATH + "/{join_request_id}/approve", Role.OPERATOR, self.approve),
            Route("POST", PATH + "/{join_request_id}/deny", Role.OPERATOR, self.deny),
        ]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List requests."""
        query = read_query(request, JoinRequestQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await join_requests.list_page(
                session, workspace.workspace_id, state=query.state, after=asked.after(str), most=asked.most_rows
            )
        page, next_page = asked.cut(rows, lambda row: (row.join_request_id,))
        return json_response({"join_requests": [_view(row) for row in page]} | next_page)

    async def approve(self, request: web.Request, caller: Caller) -> web.Response:
        """Let the machine in, once, with the signing request that it has shown; it asks again by itself."""
        return await self._decide(request, caller, APPROVED)

    async def deny(self, request: web.Request, caller: Caller) -> web.Response:
        """Refuse the machine; for a week the same request is answered so."""
        return await self._decide(request, caller, DENIED)

    async def _decide(self, request: web.Request, caller: Caller, state: str) -> web.Response:
        await read_body(request, Nothing)
        join_request_id = request.match_info["join_request_id"]
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            record = await join_requests.find(session, workspace.workspace_id, join_request_id)
            if record is None or record.expire_time <= now * 1000:
                raise not_found_in(workspace.workspace, "join request")
            if record.state not in (PENDING, state):
                raise conflict(f"this request was {record.state} already")
            if record.state == PENDING:
                record.state, record.decided_by = state, caller.actor.name
                record.expire_time = int((now + KEPT_SECONDS[state]) * 1000)
                happening = Happening(
                    "join_request.decide",
                    outcome=state,
                    resource=join_request_id,
                    workspace_id=workspace.workspace_id,
                    details={"node_id": record.node_id, "evidence_sha256": record.evidence_sha256, **record.machine},
                )
                append(session, now, caller.actor, happening)
        return json_response(_view(record))


def _view(record: JoinRequest) -> dict[str, Any]:
    view = {
        "join_request_id": record.join_request_id,
        "state": record.state,
        "node_id": record.node_id,
        "machine_id": record.machine_id,
        "join_policy_id": record.join_policy_id,
        "machine": record.machine,
        "csr_sha256": record.csr_sha256,
        "source_address": record.source_address,
        "creation_time": record.creation_time,
        "last_time": record.last_time,
        "expire_time": record.expire_time,
        "decided_by": record.decided_by,
    }
    return {name: value for name, value in view.items() if value is not None}
