"""`/w/{workspace}/api/2.0/submissions`: what was asked for as a whole, with its commands, waves and end."""

from typing import Any

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.command_views import view_command
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, Query, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import not_found_in
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.stopping import stop
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.fleet.submission_views import view_submission
from control_plane.storage import commands, submissions
from control_plane.storage.audit import Happening, append
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Submission
from control_plane.storage.submissions import SubmissionKey

PATH = "/w/{workspace}/api/2.0/submissions"
LONGEST_WAIT_SECONDS = 30.0
_SAID_ONCE = frozenset({"argv", "named", "parameters", "secrets", "submitted_by"})


class WaitQuery(Query):
    """Whether to answer only once something has changed."""

    seen: str | None = Field(default=None, max_length=64)
    wait_seconds: float = Field(default=0.0, ge=0, le=LONGEST_WAIT_SECONDS, allow_inf_nan=False)


class SubmissionResource:
    """Submissions as operators see them."""

    def __init__(self, context: ApiContext, dispatcher: Dispatcher, news: SubmissionNews) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._news = news

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{submission_id}", Role.OPERATOR, self.get, query=True),
            Route("GET", PATH + "/{submission_id}/commands", Role.OPERATOR, self.commands, query=True),
            Route("POST", PATH + "/{submission_id}/cancel", Role.OPERATOR, self.cancel),
        ]

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List submissions, newest first."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        after = (int(start[0]), str(start[1])) if (start := asked.start) else None
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            rows = await submissions.list_page(session, workspace.workspace_id, after=after, most=asked.most_rows)
            page, next_page = asked.cut(rows, lambda row: (row.creation_time, row.submission_id))
            counts = await submissions.state_counts(session, [_key(row) for row in page])
        views = [view_submission(row, counts[_key(row)]) for row in page]
        return json_response({"submissions": views} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one submission; with `seen`, once its revision is another one."""
        query = read_query(request, WaitQuery)
        key, view = await self._view(request)
        if query.seen is not None and query.seen == view["revision"] and view["state"] == "RUNNING":
            await self._news.wait(key, query.seen, query.wait_seconds)
            _, view = await self._view(request)
        return json_response(view)

    async def commands(self, request: web.Request, caller: Caller) -> web.Response:
        """List the commands of a submission in the order of its rollout, as they were last heard of."""
        query = read_query(request, PageQuery)
        asked = self._context.pages.asked_for(request.path, query)
        after = (int(start[0]), str(start[1]), str(start[2])) if (start := asked.start) else None
        async with self._context.database.read() as session:
            submission = await _found(session, request)
            rows = await submissions.command_page(session, _key(submission), after=after, most=asked.most_rows)
        page, next_page = asked.cut(rows, lambda row: (row.wave or 0, row.node, row.command_id))
        views = [
            {key: value for key, value in view_command(row, submission).items() if key not in _SAID_ONCE}
            for row in page
        ]
        return json_response({"commands": views} | next_page)

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        """End what was not sent, and ask for the end of the rest, durably; what has ended stays as it is."""
        await read_body(request, Nothing)
        async with self._context.database.write() as session:
            key = _key(await _found(session, request))
            submission = await submissions.lock(session, key)
            reason = f"cancelled by {caller.actor.name}"
            left = await stop(session, submission, reason, running=True) if submission is not None else []
            if left:
                happening = Happening("submission.cancel", resource=key.submission_id, workspace_id=key.workspace_id)
                append(session, self._context.clock.now(), caller.actor, happening)
        for command in left:
            self._dispatcher.kick(CommandKey(command.workspace_id, command.command_id), command.node_id)
        self._news.tell(key)
        return json_response((await self._view(request))[1])

    async def _view(self, request: web.Request) -> tuple[SubmissionKey, dict[str, Any]]:
        async with self._context.database.read() as session:
            key = _key(await _found(session, request))
        revision = self._news.revision(key)  # before what it is of, so that no change is missed
        async with self._context.database.read() as session:
            submission = await _found(session, request)
            counts = await submissions.state_counts(session, [key])
        return key, view_submission(submission, counts[key]) | {"revision": revision}


def _key(submission: Submission) -> SubmissionKey:
    return SubmissionKey(submission.workspace_id, submission.submission_id)


async def _found(session: AsyncSession, request: web.Request) -> Submission:
    """Return the submission that the path names.

    Raises:
        ApiError: there is none.
    """
    workspace = await the_workspace(session, request.match_info["workspace"])
    submission_id = request.match_info["submission_id"]
    submission = await commands.find_submission(session, workspace.workspace_id, submission_id)
    if submission is None:
        raise not_found_in(workspace.workspace, "submission")
    return submission
