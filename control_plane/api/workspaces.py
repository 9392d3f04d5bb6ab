"""`/api/2.0/accounts` and the workspaces of the account."""

from typing import Any

from aiohttp import web

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, check_account, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Name, Nothing, OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.identity.endings import end_workspace
from control_plane.storage import workspaces
from control_plane.storage.audit import Happening, append
from control_plane.storage.records.accounts import Workspace
from control_plane.workspace_removal import WorkspaceRemoval

PATH = "/api/2.0/accounts/{account}/workspaces"


class NewWorkspace(OperatorRequest):
    """The body of a creation."""

    workspace: Name


class WorkspaceResource:
    """Workspaces, and the account they are in."""

    def __init__(self, context: ApiContext, removal: WorkspaceRemoval, news: SubmissionNews) -> None:
        self._context = context
        self._removal = removal
        self._news = news

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", "/api/2.0/accounts", Role.OPERATOR, self.get_account),
            Route("POST", PATH, Role.OPERATOR, self.create),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{workspace}", Role.OPERATOR, self.get),
            Route("DELETE", PATH + "/{workspace}", Role.OPERATOR, self.delete),
        ]

    async def get_account(self, request: web.Request, caller: Caller) -> web.Response:
        """Return the account's id."""
        return json_response({"account_id": self._context.account_id})

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a workspace; sent twice, the second answer is the first's with status 200."""
        check_account(self._context, request)
        body = await read_body(request, NewWorkspace)
        async with self._context.database.write() as session:
            workspace = await workspaces.find(session, body.workspace)
            status = 200
            if workspace is None:
                status = 201
                now = self._context.clock.now()
                workspace = workspaces.add(session, self._context.account_id, body.workspace, int(now * 1000))
                happening = Happening("workspace.create", resource=body.workspace, workspace_id=workspace.workspace_id)
                append(session, now, caller.actor, happening)
        return json_response(_view(workspace), status)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List workspaces by name."""
        check_account(self._context, request)
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            rows = await workspaces.list_page(session, after=asked.after(str), most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.workspace,))
        return json_response({"workspaces": [_view(row) for row in page]} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one workspace."""
        check_account(self._context, request)
        async with self._context.database.read() as session:
            return json_response(_view(await the_workspace(session, request.match_info["workspace"])))

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a workspace, and revoke what it was issued; what is in it is removed after the answer."""
        check_account(self._context, request)
        await read_body(request, Nothing)
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await end_workspace(session, workspace, caller.actor, self._context.clock.now())
        self._news.workspace_ended(workspace.workspace_id)
        self._removal.look_again()
        await self._context.trust.refresh()
        return json_response({})


def _view(workspace: Workspace) -> dict[str, Any]:
    return {
        "workspace_id": workspace.workspace_id,
        "workspace": workspace.workspace,
        "creation_time": workspace.creation_time,
    }
