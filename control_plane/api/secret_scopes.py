"""`/w/{workspace}/api/2.0/secrets/scopes`: named groups of secrets, the unit of grants, in the form of Databricks."""

import contextlib
from typing import Annotated, Any

from aiohttp import web
from pydantic import StringConstraints
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import OperatorRequest, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import limit_reached, not_found
from control_plane.fleet.secret_notices import SecretNotices
from control_plane.secrets.references import SCOPE_PATTERN
from control_plane.storage import secrets
from control_plane.storage.audit import Happening, append
from control_plane.storage.errors import StorageError
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.secrets import SecretScope

PATH = "/w/{workspace}/api/2.0/secrets/scopes"
MOST_SCOPES = 100

ScopeName = Annotated[str, StringConstraints(pattern=SCOPE_PATTERN)]


class ScopeBody(OperatorRequest):
    """The body of a creation or deletion."""

    scope: ScopeName


class SecretScopeResource:
    """Scopes as operators see them."""

    def __init__(self, context: ApiContext, notices: SecretNotices) -> None:
        self._context = context
        self._notices = notices

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH + "/create", Role.OPERATOR, self.create),
            Route("GET", PATH + "/list", Role.OPERATOR, self.list, query=True),
            Route("POST", PATH + "/delete", Role.OPERATOR, self.delete),
        ]

    async def create(self, request: web.Request, caller: Caller) -> web.Response:
        """Create a scope; sent twice, the second answer is the first's with status 200."""
        body = await read_body(request, ScopeBody)
        now = self._context.clock.now()
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            scope = await secrets.find_scope(session, workspace.workspace_id, body.scope)
            status = 200
            if scope is None:
                status = 201
                await _check_bound(session, workspace)
                scope = secrets.add_scope(
                    session, workspace.workspace_id, body.scope, int(now * 1000), caller.actor.name
                )
                happening = Happening("secret.create_scope", "ok", body.scope, workspace.workspace_id)
                append(session, now, caller.actor, happening)
        return json_response(_view(scope), status)

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List scopes by name."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await secrets.list_scopes(
                session, workspace.workspace_id, after=asked.after(str), most=asked.most_rows
            )
        page, next_page = asked.cut(rows, lambda row: (row.scope,))
        return json_response({"scopes": [_view(row) for row in page]} | next_page)

    async def delete(self, request: web.Request, caller: Caller) -> web.Response:
        """Delete a scope with its secrets and grants; nodes drop them, and nothing of them stays in the files."""
        body = await read_body(request, ScopeBody)
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            await the_scope(session, workspace, body.scope)
            await secrets.remove_scope(session, workspace.workspace_id, body.scope)
            happening = Happening("secret.delete_scope", "ok", body.scope, workspace.workspace_id)
            append(session, self._context.clock.now(), caller.actor, happening)
        self._notices.look_again()
        await scrub(self._context)
        return json_response({})


async def the_scope(session: AsyncSession, workspace: Workspace, scope: str) -> SecretScope:
    """Return the workspace's scope.

    Raises:
        ApiError: there is none of that name.
    """
    found = await secrets.find_scope(session, workspace.workspace_id, scope)
    if found is None:
        listed_at = f"/w/{workspace.workspace}/api/2.0/secrets/scopes/list"
        raise not_found("secret scope", listed_at, place=f" in the workspace {workspace.workspace}")
    return found


async def scrub(context: ApiContext) -> None:
    """Let nothing that was deleted stay in the database's files; what cannot be done now, housekeeping will do."""
    with contextlib.suppress(StorageError):
        await context.database.scrub()


async def _check_bound(session: AsyncSession, workspace: Workspace) -> None:
    if await secrets.count_scopes(session, workspace.workspace_id) >= MOST_SCOPES:
        raise limit_reached(f"a workspace may have {MOST_SCOPES} scopes: delete some")


def _view(scope: SecretScope) -> dict[str, Any]:
    return {"name": scope.scope, "creation_time": scope.creation_time}
