"""`/w/{workspace}/api/2.0/commands`: submit, list, look at, cancel."""

import asyncio
import base64
import binascii
import secrets
from functools import partial
from typing import Annotated, Any

from aiohttp import web
from pydantic import AfterValidator, Field, StringConstraints, model_validator
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.context import ApiContext, the_workspace
from control_plane.api.pages import PageQuery
from control_plane.api.problems import told_as
from control_plane.api.requests import Nothing, OperatorRequest, Text, read_body, read_query
from control_plane.api.responses import json_response
from control_plane.api.rollouts import RolloutBody
from control_plane.errors import not_found_in
from control_plane.fleet.command_steps import UNKNOWN
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.resolution import resolution
from control_plane.fleet.rollout_conductor import RolloutConductor
from control_plane.fleet.submission_views import held_reason
from control_plane.fleet.submissions import Order, Target, submit
from control_plane.history.chronicle import Chronicle
from control_plane.history.command_audit import about
from control_plane.names import COMMAND_ID_PATTERN, NAMED_COMMAND_PATTERN, PARAMETER_PATTERN
from control_plane.secrets.references import (
    FILE_PATTERN,
    MOST_REFERENCES,
    REFERENCE_PATTERN,
    VARIABLE_PATTERN,
    names_in,
)
from control_plane.storage import commands
from control_plane.storage.audit import Happening, append
from control_plane.storage.commands import CommandFilter, CommandKey
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey

PATH = "/w/{workspace}/api/2.0/commands"
LARGEST_STDIN_BYTES = 4 * 1024 * 1024
LARGEST_BODY_BYTES = 8 * 1024 * 1024
MOST_ARGUMENTS = 4096
LONGEST_ARGUMENT = 120 * 1024
LONGEST_PARAMETER = 4096
LARGEST_NUMBER = 2**53
MOST_PARAMETERS = 32
CANCEL_SECONDS = 3.0
VIEWS_AT_ONCE = 500


def _base64(text: str) -> str:
    try:
        size = len(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None
    if size > LARGEST_STDIN_BYTES:
        raise ValueError(f"must be at most {LARGEST_STDIN_BYTES} bytes before base64")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must be an absolute path")
    return text


def _variables(environment: dict[str, str]) -> dict[str, str]:
    if any(not name or "=" in name or "\x00" in name for name in environment):
        raise ValueError("the name of a variable is empty or holds = or NUL")
    return environment


Argument = Annotated[Text, Field(max_length=LONGEST_ARGUMENT)]
ParameterName = Annotated[str, StringConstraints(pattern=PARAMETER_PATTERN)]
ParameterValue = Annotated[
    Annotated[Text, Field(max_length=LONGEST_PARAMETER)]
    | Annotated[int, Field(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
    | bool,
    told_as(f"must be a string of at most {LONGEST_PARAMETER} characters without NUL, a whole number, true or false"),
]
Parameters = Annotated[dict[ParameterName, ParameterValue], Field(max_length=MOST_PARAMETERS)]
Variables = Annotated[dict[str, Argument], Field(max_length=MOST_ARGUMENTS), AfterValidator(_variables)]


class TargetBody(OperatorRequest):
    """Which nodes; exactly one way of saying it."""

    node: str | None = Field(default=None, max_length=64)
    cluster: str | None = Field(default=None, max_length=64)
    selector: dict[str, str] | None = Field(default=None, min_length=1, max_length=16)
    all: bool | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> "TargetBody":
        if self.all is False:
            raise ValueError("all must be true, or left out")
        if sum(choice is not None for choice in (self.node, self.cluster, self.selector, self.all)) != 1:
            raise ValueError("give exactly one of node, cluster, selector and all")
        return self


Reference = Annotated[str, StringConstraints(pattern=REFERENCE_PATTERN)]
VariableName = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
FileName = Annotated[str, StringConstraints(pattern=FILE_PATTERN)]


class SecretReferences(OperatorRequest):
    """Workspace secrets that the command is given: `scope/key` by name of a variable, or of a file."""

    environment: dict[VariableName, Reference] = Field(default={}, max_length=MOST_REFERENCES)
    files: dict[FileName, Reference] = Field(default={}, max_length=MOST_REFERENCES)

    @model_validator(mode="after")
    def _bounded(self) -> "SecretReferences":
        if not 0 < len(self.environment) + len(self.files) <= MOST_REFERENCES:
            raise ValueError(f"name 1 to {MOST_REFERENCES} secrets")
        if any(name.startswith("TRUNKLINE_") for name in self.environment):
            raise ValueError("variables named TRUNKLINE_… are the agent's own")
        return self


class LimitsBody(OperatorRequest):
    """What the command may use at most; the node's owner may allow less."""

    memory_bytes: int | None = Field(default=None, ge=4 * 1024**2, le=2**50)
    processes: int | None = Field(default=None, ge=1, le=2**22)
    cpu_percent: int | None = Field(default=None, ge=1, le=409_600)
    open_files: int | None = Field(default=None, ge=16, le=2**20)
    output_bytes: int | None = Field(default=None, ge=1024, le=2**50)

    @model_validator(mode="after")
    def _something(self) -> "LimitsBody":
        if not self.model_dump(exclude_none=True):
            raise ValueError("name at least one limit, or leave limits out")
        return self


class NewCommand(OperatorRequest):
    """The body of a submission."""

    command_id: str | None = Field(default=None, pattern=COMMAND_ID_PATTERN)
    target: TargetBody
    argv: list[Argument] | None = Field(default=None, min_length=1, max_length=MOST_ARGUMENTS)
    named: str | None = Field(default=None, pattern=NAMED_COMMAND_PATTERN)
    parameters: Parameters = Field(default={})
    environment: Variables = Field(default={})
    working_directory: Annotated[Text, Field(max_length=4095), AfterValidator(_absolute)] | None = None
    user: str | None = Field(default=None, pattern=r"^[a-z_][a-z0-9_-]{0,31}\$?$")
    timeout_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    grace_seconds: float | None = Field(default=None, ge=0, le=86400, allow_inf_nan=False)
    limits: LimitsBody | None = None
    stdin: Annotated[str, AfterValidator(_base64)] | None = None
    stdin_stream: bool | None = None
    secrets: SecretReferences | None = None
    rollout: RolloutBody | None = None

    @model_validator(mode="after")
    def _several(self) -> "NewCommand":
        if self.rollout is not None and self.target.node is not None:
            raise ValueError("a rollout needs a target of several nodes: cluster, selector or all")
        return self

    @model_validator(mode="after")
    def _one_program(self) -> "NewCommand":
        if (self.argv is None) == (self.named is None):
            raise ValueError("give either argv or named")
        if self.parameters and self.named is None:
            raise ValueError("parameters are those of a named command")
        return self

    @model_validator(mode="after")
    def _one_input(self) -> "NewCommand":
        if self.stdin_stream is False:
            raise ValueError("stdin_stream must be true, or left out")
        if self.stdin_stream and self.stdin is not None:
            raise ValueError("give stdin, or stdin_stream if it follows, not both")
        if self.stdin_stream and self.target.node is None:
            raise ValueError("standard input can follow to one node only: give target.node")
        return self

    @model_validator(mode="after")
    def _one_source_each(self) -> "NewCommand":
        if self.secrets is not None and self.secrets.environment.keys() & self.environment.keys():
            raise ValueError("a variable is given both in environment and in secrets")
        return self

    def spec(self) -> dict[str, Any]:
        """Return what a node is sent."""
        fields = self.model_dump(exclude={"command_id", "target", "rollout"}, exclude_none=True)
        return {name: value for name, value in fields.items() if value != {}}


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
        """Record a command for each node of the target, durably; the nodes are called after the answer."""
        body = await read_body(request, NewCommand, largest_bytes=LARGEST_BODY_BYTES)
        settings = self._context.settings.commands
        now = self._context.clock.now()
        order = Order(
            submission_id=body.command_id or f"cmd-{secrets.token_hex(12)}",
            target=Target(body.target.node, body.target.cluster, body.target.selector, every=bool(body.target.all)),
            spec=body.spec(),
            submitted_by=caller.actor.name,
            submit_time=int(now * 1000),
            deliver_before=int((now + settings.delivery_seconds) * 1000),
            rollout=body.rollout.order() if body.rollout is not None else None,
        )
        async with self._context.database.write() as session:
            workspace = await the_workspace(session, request.match_info["workspace"])
            note = partial(self._chronicle.submitted, session)
            accepted = await submit(session, workspace, order, most_open=settings.most_open_per_workspace, note=note)
            if accepted.new:
                details = {"body_sha256": order.fingerprint(), "nodes": len(accepted.commands)}
                if named := names_in(accepted.submission.secrets):
                    details["secrets"] = [str(name) for name in named]
                happening = Happening(
                    "command.submit",
                    resource=order.submission_id,
                    workspace_id=workspace.workspace_id,
                    details=details,
                )
                append(session, now, caller.actor, happening)
        # Of a repetition too: that the first was recorded may not have been heard of here.
        for command in accepted.commands:
            if not command.final:
                self._dispatcher.kick(CommandKey(command.workspace_id, command.command_id), command.node_id)
        if accepted.submission.rollout_open:
            self._conductor.begin(SubmissionKey(accepted.submission.workspace_id, order.submission_id))
        views = []
        for number, command in enumerate(accepted.commands):
            views.append(view_command(command, accepted.submission))
            if number % VIEWS_AT_ONCE == VIEWS_AT_ONCE - 1:
                await asyncio.sleep(0)
        return json_response({"submission_id": order.submission_id, "commands": views}, 201 if accepted.new else 200)

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
            view |= _unknown_just_now(command, self._context.now_ms())
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


def view_command(command: Command, submission: Submission) -> dict[str, Any]:
    """Return a command as the API shows it."""
    held = command.held and not command.final
    view = {
        "command_id": command.command_id,
        "submission_id": command.submission_id,
        "wave": command.wave + 1 if command.wave is not None else None,
        "held": held or None,
        "node_id": command.node_id,
        "node": command.node,
        "state": command.state,
        "argv": submission.argv or None,
        "named": submission.named,
        "parameters": submission.parameters,
        "secrets": submission.secrets,
        "exit_code": command.exit_code,
        "signal": command.signal,
        "reason": held_reason(command, submission) if held else command.reason,
        "unknown": _unknown(command),
        "submit_time": command.submit_time,
        "deliver_before": command.deliver_before if _waits(command) else None,
        "start_time": command.start_time,
        "end_time": command.end_time,
        "stdout_bytes": command.stdout_bytes,
        "stderr_bytes": command.stderr_bytes,
        "stdout_dropped_bytes": command.stdout_dropped_bytes,
        "stderr_dropped_bytes": command.stderr_dropped_bytes,
        "submitted_by": submission.submitted_by,
    }
    return {key: value for key, value in view.items() if value is not None}


def _unknown(command: Command) -> dict[str, Any] | None:
    """Return since when and why it is not known how a command is, and how that will be known."""
    if command.state != UNKNOWN:
        return None
    found = resolution(command)
    view = {
        "since": command.unknown_since,
        "reason": command.reason,
        "resolves": found.how,
        "resolves_by": found.by,
    }
    return {key: value for key, value in view.items() if value is not None}


def _unknown_just_now(command: Command, now_ms: int) -> dict[str, Any]:
    """Return the view of a command whose node does not answer this very moment, over what is on record."""
    reason = "the node does not answer at present"
    since = command.unknown_since or now_ms
    unknown = {"since": since, "reason": reason, "resolves": resolution(command).how}
    return {"state": UNKNOWN, "reason": reason, "unknown": unknown}


def _waits(command: Command) -> bool:
    """Whether its delivery is being tried; after the last attempt, the deadline is past."""
    return not (command.delivered or command.final or command.cancel_requested or command.held)
