"""`/api/2.0/accounts/{account}/workspaces/{workspace}/quotas`: what a workspace, and each of its senders, may use."""

from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account, the_workspace
from control_plane.api.requests import OperatorRequest, read_body
from control_plane.api.responses import json_response
from control_plane.api.workspaces import PATH as WORKSPACES
from control_plane.errors import conflict
from control_plane.storage import workspaces
from control_plane.storage.audit import Happening, append

MAX_CALLS_PER_SECOND = 1_000_000
MAX_CONCURRENT_CALLS = 1_000_000
MAX_BYTES_PER_SECOND = 2**40
MAX_QUOTAS = 10_000
"""Workspaces that may have quotas; relays read twice as many."""

PATH = WORKSPACES + "/{workspace}/quotas"


class QuotaBody(OperatorRequest):
    """Bounds of one party; what is left out is not bounded."""

    calls_per_second: Annotated[int, Field(ge=1, le=MAX_CALLS_PER_SECOND)] | None = None
    concurrent_calls: Annotated[int, Field(ge=1, le=MAX_CONCURRENT_CALLS)] | None = None
    bytes_per_second: Annotated[int, Field(ge=1, le=MAX_BYTES_PER_SECOND)] | None = None


class QuotasBody(OperatorRequest):
    """The whole of a workspace's quotas."""

    workspace: QuotaBody = QuotaBody()
    sender: QuotaBody = QuotaBody()


class QuotaResource:
    """The quotas of workspaces; relays hold to a change within a second."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", PATH, Role.OPERATOR, self.get),
            Route("PUT", PATH, Role.OPERATOR, self.replace),
        ]

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the quotas that are set."""
        check_account(self._context, request)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            return json_response(_view(workspace.quotas))

    async def replace(self, request: web.Request, caller: Caller) -> web.Response:
        """Put these quotas in place of those that there were; an empty body lifts them all."""
        check_account(self._context, request)
        body = await read_body(request, QuotasBody)
        stated = _view(body.model_dump(exclude_none=True))
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            if any(stated.values()) and not workspace.quotas and await workspaces.count_bounded(session) >= MAX_QUOTAS:
                raise conflict(f"{MAX_QUOTAS} workspaces have quotas already, which is the most that there may be")
            workspace.quotas = stated if any(stated.values()) else None
            happening = Happening(
                "workspace.set_quotas",
                resource=workspace.workspace,
                workspace_id=workspace.workspace_id,
                details={"quotas": stated},
            )
            append(session, self._context.clock.now(), caller.actor, happening)
        await self._context.quotas.refresh()
        return json_response(stated)


def _view(quotas: dict[str, Any] | None) -> dict[str, Any]:
    return {"workspace": {}, "sender": {}} | (quotas or {})
