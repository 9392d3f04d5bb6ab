"""`/api/2.0/accounts/{account}/audit-events`: who did what, newest first."""

from typing import Any

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account
from control_plane.api.pages import PageQuery
from control_plane.api.requests import read_query
from control_plane.api.responses import json_response
from control_plane.storage import audit
from control_plane.storage.audit import AuditFilter
from control_plane.storage.records.audit import AuditEvent

PATH = "/api/2.0/accounts/{account}/audit-events"


class AuditQuery(PageQuery):
    """The filters of the list."""

    workspace_id: str | None = Field(default=None, max_length=64)
    action: str | None = Field(default=None, max_length=255)
    actor: str | None = Field(default=None, max_length=512)
    outcome: str | None = Field(default=None, max_length=255)
    since_time: int | None = Field(default=None, ge=0, le=2**53)
    until_time: int | None = Field(default=None, ge=0, le=2**53)


class AuditResource:
    """Audit events, to read only."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH, Role.OPERATOR, self.list, query=True)]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List events, newest first."""
        check_account(self._context, request)
        query = read_query(request, AuditQuery)
        wanted = AuditFilter(
            query.workspace_id, query.action, query.actor, query.outcome, query.since_time, query.until_time
        )
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            rows = await audit.list_events(session, wanted, before=asked.after(int), most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.event_id,))
        return json_response({"events": [_view(row) for row in page]} | next_page)


def _view(row: AuditEvent) -> dict[str, Any]:
    columns = ("event_id", "time", "actor", "action", "outcome", "resource", "workspace_id", "request_id")
    view = {name: getattr(row, name) for name in (*columns, "source_address", "details")}
    return {key: value for key, value in view.items() if value is not None}
