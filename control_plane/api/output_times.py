"""`…/commands/{command_id}/output/times`: when a command wrote what.

The node is asked while it has the output; of what the control plane has kept, the marks are kept too, thinned.
"""

from typing import Literal

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.commands import PATH, found
from control_plane.api.context import ApiContext
from control_plane.api.requests import Query, read_query
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_times import MOST_MARKS, MarkPage, read_marks
from control_plane.outputs.kept import KeptOutputs
from control_plane.storage import commands
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command


class TimesQuery(Query):
    """Which marks: of the byte at `offset` and those that follow, `limit` at most; with `kept`, of what was kept."""

    stream: Literal["stdout", "stderr"] = "stdout"
    offset: int = Field(default=0, ge=0, lt=2**53)
    limit: int = Field(default=MOST_MARKS, ge=1, le=MOST_MARKS)
    kept: bool = False


class OutputTimesResource:
    """The times of outputs."""

    def __init__(self, context: ApiContext, nodes: NodeCommands, kept: KeptOutputs) -> None:
        self._context = context
        self._nodes = nodes
        self._kept = kept

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH + "/{command_id}/output/times", Role.OPERATOR, self.read, query=True)]

    async def read(self, request: web.Request, caller: Caller) -> web.Response:
        """Return when the bytes from an offset on were written."""
        query = read_query(request, TimesQuery)
        async with self._context.database.read() as session:
            command, _ = await found(session, request)
            place = await commands.node_of(session, command)
        if not command.delivered:
            return _answer(MarkPage(times=[]))
        if query.kept and (page := await self._of_kept(command, query)) is not None:
            return _answer(page)
        try:
            if place is None:
                raise ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node was deleted, and no times were kept")
            return _answer(await self._of_node(NodeAddress(*place), command, query))
        except ApiError as error:
            gone = error.code is ErrorCode.RESOURCE_DOES_NOT_EXIST
            page = await self._of_kept(command, query) if gone else None
            if page is None:
                raise
            return _answer(page)

    async def _of_node(self, address: NodeAddress, command: Command, query: TimesQuery) -> MarkPage:
        return await read_marks(
            self._nodes, address, command.command_id, stream=query.stream, offset=query.offset, most=query.limit
        )

    async def _of_kept(self, command: Command, query: TimesQuery) -> MarkPage | None:
        key = CommandKey(command.workspace_id, command.command_id)
        return await self._kept.times(key, query.stream, query.offset, query.limit)


def _answer(page: MarkPage) -> web.Response:
    return json_response(page.model_dump(exclude_none=True))
