"""`/w/{workspace}/api/2.0/commands`: submit, list, look at, cancel."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.command_bodies import NewCommand
from control_plane.api.command_views import unknown_just_now, view_command
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.requests import Nothing, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.errors import not_found_in
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.rollout_conductor import RolloutConductor
from control_plane.fleet.submissions import Accepted, Order, Target, submit
from control_plane.history.chronicle import Chronicle
from control_plane.history.command_audit import about
from control_plane.secrets.references import names_in
from control_plane.storage import commands
from control_plane.storage.audit import Happening, append
from control_plane.storage.commands import CommandFilter, CommandKey
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey

PATH = "/w/{workspace}/api/2.0/commands"
LARGEST_BODY_BYTES = 8 * 1024 * 1024
CANCEL_SECONDS = 3.0
VIEWS_AT_ONCE = 500


class CommandQuery(PageQuery):
    """The filters of the list."""

    node: str | None = Field(default=None, max_length=64)
    state: str | None = Field(
        default=None, pattern="^(QUEUED|RUNNING|CANCELLING|SUCCEEDED|FAILED|TIMED_OUT|CANCELLED|LOST|UNKNOWN)$"
    )


class CommandResource:
    """Commands as operators see them."""

    def __init__(
        self, context: ApiContext, dispatcher: Dispatcher, conductor: RolloutConductor, chronicle: Chronicle
    ) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._conductor = conductor
        self._chronicle = chronicle

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [
            Route("POST", PATH, Role.OPERATOR, self.submit),
            Route("GET", PATH, Role.OPERATOR, self.list, query=True),
            Route("GET", PATH + "/{command_id}", Role.OPERATOR, self.get),
            Route("POST", PATH + "/{command_id}/cancel", Role.OPERATOR, self.cancel),
        ]

    async def submit(self, request: web.Request, caller: Caller) -> web.Response:
        """Record a command for each node of the target, durably; the answer waits for none of the nodes."""
        body = await read_body(request, NewCommand, largest_bytes=LARGEST_BODY_BYTES)
        now = self._context.clock.now()
        order = self._order(body, caller, now)
        most_open = self._context.settings.commands.most_open_per_workspace

        async def record(session: AsyncSession) -> Accepted:
            workspace = await the_workspace(session, request.match_info["workspace"])
            note = partial(self._chronicle.submitted, session)
            accepted = await submit(session, workspace, order, most_open=most_open, note=note)
            if accepted.new:
                append(session, now, caller.actor, _submitted(workspace, order, accepted))
            return accepted

        accepted = await self._recorded(record, order)
        self._set_going(accepted)
        document = {"submission_id": order.submission_id, "commands": await _views(accepted)}
        return json_response(document, 201 if accepted.new else 200)

    async def _recorded(self, record: Callable[[AsyncSession], Awaitable[Accepted]], order: Order) -> Accepted:
        """Record an order: that for one node takes a moment, and may share a commit; another may be for thousands."""
        if order.target.node is not None:
            return await self._context.database.write_together(record)
        async with self._context.database.write() as session:
            return await record(session)

    def _order(self, body: NewCommand, caller: Caller, now: float) -> Order:
        delivery_seconds = self._context.settings.commands.delivery_seconds
        return Order(
            submission_id=body.command_id or f"cmd-{secrets.token_hex(12)}",
            target=Target(body.target.node, body.target.cluster, body.target.selector, every=bool(body.target.all)),
            spec=body.spec(),
            submitted_by=caller.actor.name,
            submit_time=int(now * 1000),
            deliver_before=int((now + delivery_seconds) * 1000),
            rollout=body.rollout.order() if body.rollout is not None else None,
        )

    def _set_going(self, accepted: Accepted) -> None:
        """Have what is recorded done; of a repetition too: of the first it may not have been heard here."""
        for command in accepted.commands:
            if not command.final:
                self._dispatcher.kick(CommandKey(command.workspace_id, command.command_id), command.node_id)
        submission = accepted.submission
        if submission.rollout_open:
            self._conductor.begin(SubmissionKey(submission.workspace_id, submission.submission_id))

    async def list(self, request: web.Request, caller: Caller) -> web.Response:
        """List commands, newest first, as they were last heard of."""
        query = read_query(request, CommandQuery)
        wanted = CommandFilter(query.node, query.state)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            after = (int(start[0]), str(start[1])) if (start := asked.start) else None
            rows = await commands.list_page(session, workspace.workspace_id, wanted, after=after, most=asked.most_rows)
            page, next_page = asked.cut(rows, lambda row: (row.submit_time, row.command_id))
            submissions = await commands.submissions_of(session, page)
        views = [view_command(row, submissions[row.workspace_id, row.submission_id]) for row in page]
        return json_response({"commands": views} | next_page)

    async def get(self, request: web.Request, caller: Caller) -> web.Response:
        """Return one command; one that has not ended is asked for at its node first, for a short time."""
        async with self._context.database.read() as session:
            command, submission = await found(session, request)
        if command.final:
            return json_response(view_command(command, submission))
        key = CommandKey(command.workspace_id, command.command_id)
        timeout_seconds = self._context.settings.commands.refresh_timeout_seconds
        asked = await self._dispatcher.settle(key, command.node_id, timeout_seconds)
        async with self._context.database.read() as session:
            command, submission = await found(session, request)
        view = view_command(command, submission)
        if not asked and command.delivered and not command.final:
            view |= unknown_just_now(command, self._context.now_ms())
        return json_response(view)

    async def cancel(self, request: web.Request, caller: Caller) -> web.Response:
        """Ask for a command's end, durably; one that has ended stays as it is."""
        await read_body(request, Nothing)
        noted = None
        async with self._context.database.write() as session:
            command, submission = await found(session, request)
            if not command.final and not command.cancel_requested:
                command.cancel_requested = True
                happening = Happening(
                    "command.cancel",
                    resource=command.command_id,
                    workspace_id=command.workspace_id,
                    details=about(command, submission),
                )
                append(session, self._context.clock.now(), caller.actor, happening)
                noted = self._chronicle.cancel_asked(session, command, caller.actor)
        if noted is not None:
            self._chronicle.done(noted)
        if not command.final:
            key = CommandKey(command.workspace_id, command.command_id)
            await self._dispatcher.settle(key, command.node_id, CANCEL_SECONDS)
            async with self._context.database.read() as session:
                command, submission = await found(session, request)
        return json_response(view_command(command, submission))


async def found(session: AsyncSession, request: web.Request) -> tuple[Command, Submission]:
    """Return the command that the path names.

    Raises:
        ApiError: there is none.
    """
    workspace = await the_workspace(session, request.match_info["workspace"])
    command_id = request.match_info["command_id"]
    command = await commands.find(session, CommandKey(workspace.workspace_id, command_id))
    submission = None
    if command is not None:
        submission = await commands.find_submission(session, workspace.workspace_id, command.submission_id)
    if command is None or submission is None:
        raise not_found_in(workspace.workspace, "command")
    return command, submission


def _submitted(workspace: Workspace, order: Order, accepted: Accepted) -> Happening:
    details: dict[str, Any] = {"body_sha256": order.fingerprint(), "nodes": len(accepted.commands)}
    if named := names_in(accepted.submission.secrets):
        details["secrets"] = [str(name) for name in named]
    return Happening(
        "command.submit", resource=order.submission_id, workspace_id=workspace.workspace_id, details=details
    )


async def _views(accepted: Accepted) -> list[dict[str, Any]]:
    """Return the commands of a submission as they are shown; between some hundreds, others have a turn."""
    views = []
    for number, command in enumerate(accepted.commands, 1):
        views.append(view_command(command, accepted.submission))
        if number % VIEWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return views
