"""`…/commands/{command_id}/output`: a command's output, streamed through from its node.

Nothing is kept here but the chunk in hand: the node is read only as fast as the caller reads. When the caller goes,
the stream to the node is reset. When the node is lost in the middle, it is read on where it broke (`NodeOutput`); if
it does not come back, the connection to the caller is cut, so that a part never looks like the whole, and the caller
resumes at its offset.

Of a command that has ended, a node may have less than it counted (it lost power, say): then that is said like a gap.

What the control plane has kept of a command that has ended is given where it is the whole, where the node is gone or no
longer has the output, and where the caller takes it (`kept`). A gap in it is never bridged: `Trunkline-Cut` says which
of the bytes asked for are not kept, and the answer ends before them, or begins after them.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from aiohttp import web
from pydantic import Field, model_validator

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.commands import PATH, found
from control_plane.api.context import ApiContext
from control_plane.api.requests import Query, read_query
from control_plane.api.streaming import stream
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_output import SIZE_FIELD, NodeOutput, Wanted
from control_plane.outputs.kept import KeptOutputs, KeptStream
from control_plane.storage import commands
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command

DELIVERY_CHECK_SECONDS = 1.0
DELIVERY_PAUSE_SECONDS = 0.02
OFFSET_FIELD = "Trunkline-Offset"
CUT_FIELD = "Trunkline-Cut"
_NOT_THERE = frozenset({ErrorCode.RESOURCE_DOES_NOT_EXIST, ErrorCode.RANGE_NOT_SATISFIABLE})


class OutputQuery(Query):
    """Which bytes: from `offset` on or the last `tail`, at most `length` of them; with `follow`, until the end."""

    stream: Literal["stdout", "stderr"] = "stdout"
    offset: int = Field(default=0, ge=0, lt=2**53)
    tail: int | None = Field(default=None, ge=0, lt=2**53)
    length: int | None = Field(default=None, ge=0, lt=2**53)
    follow: bool = False
    kept: bool = False

    @model_validator(mode="after")
    def _one_beginning(self) -> "OutputQuery":
        if self.tail is not None and self.offset:
            raise ValueError("give offset or tail, not both")
        return self


class CommandOutputResource:
    """The output of commands."""

    def __init__(self, context: ApiContext, dispatcher: Dispatcher, nodes: NodeCommands, kept: KeptOutputs) -> None:
        self._context = context
        self._kept = kept
        self._dispatcher = dispatcher
        self._nodes = nodes

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH + "/{command_id}/output", Role.OPERATOR, self.read, query=True)]

    async def read(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stream a command's output from an offset on."""
        query = read_query(request, OutputQuery)
        command = await self._command(request)
        if command.delivered:
            return await self._of_delivered(request, command, query)
        if query.offset > 0:
            raise _beyond(0)
        if command.final or not query.follow:
            return web.Response(body=b"", headers=_fields(0, 0))
        return await stream(request, self._once_delivered(request, query), _fields(0, 0))

    async def _of_delivered(self, request: web.Request, command: Command, query: OutputQuery) -> web.StreamResponse:
        kept = await self._kept.find(_key(command), query.stream) if command.final else None
        if kept is not None and (kept.cut.missing is None or query.kept):
            return await _from_kept(request, kept, query)
        if command.final:
            query = query.model_copy(update={"follow": False})
        try:
            async with self._output(request, command, query) as output:
                fields = _fields(output.offset, output.size_bytes, _lost(command, query, output))
                return await stream(request, output.chunks(), fields)
        except ApiError as error:
            if error.code not in _NOT_THERE:
                raise
            if kept is not None:
                return await _from_kept(request, kept, query)
            return _of_nothing(command, query, error)

    async def _once_delivered(self, request: web.Request, query: OutputQuery) -> AsyncIterator[bytes]:
        """The output of a command that its node does not have yet; by then it has neither a tail nor an offset."""
        while not (command := await self._command(request)).delivered:
            if command.final:
                return
            await self._dispatcher.wait_for_steps(_key(command), 1, DELIVERY_CHECK_SECONDS)
            await asyncio.sleep(DELIVERY_PAUSE_SECONDS)
        from_its_beginning = query.model_copy(update={"tail": None})
        async with self._output(request, command, from_its_beginning) as output:
            async for chunk in output.chunks():
                yield chunk

    def _output(self, request: web.Request, command: Command, query: OutputQuery) -> NodeOutput:
        async def whole_size() -> int | None:
            return await self._whole_size(request, query.stream)

        async def find_address() -> NodeAddress:
            return await self._address(command)

        wanted = Wanted(
            find_address=find_address,
            command_id=command.command_id,
            stream=query.stream,
            offset=query.offset,
            tail_bytes=query.tail,
            length_bytes=query.length,
            follow=query.follow,
        )
        return NodeOutput(self._nodes, wanted, whole_size)

    async def _whole_size(self, request: web.Request, stream: str) -> int | None:
        """Return how much a command wrote that has ended; its node is asked whether it has."""
        command = await self._command(request)
        if not command.final:
            timeout_seconds = self._context.settings.commands.refresh_timeout_seconds
            await self._dispatcher.settle(_key(command), command.node_id, timeout_seconds)
            command = await self._command(request)
        if not command.final:
            return None
        return _size_of(command, stream)

    async def _command(self, request: web.Request) -> Command:
        async with self._context.database.read() as session:
            command, _ = await found(session, request)
        return command

    async def _address(self, command: Command) -> NodeAddress:
        async with self._context.database.read() as session:
            place = await commands.node_of(session, command)
        if place is None:
            raise ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node was deleted, and the output was not kept")
        return NodeAddress(*place)


def _key(command: Command) -> CommandKey:
    return CommandKey(command.workspace_id, command.command_id)


def _size_of(command: Command, stream: str) -> int:
    return command.stdout_bytes if stream == "stdout" else command.stderr_bytes


async def _from_kept(request: web.Request, kept: KeptStream, query: OutputQuery) -> web.StreamResponse:
    offset = query.offset if query.tail is None else max(0, kept.cut.size_bytes - query.tail)
    part = kept.part(offset, query.length)
    if part is None:
        raise _beyond(kept.cut.size_bytes)
    fields = _fields(part.offset, part.size_bytes, part.missing)
    return await stream(request, kept.chunks(part), fields)


def _beyond(size_bytes: int) -> ApiError:
    return ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, f"the output is {size_bytes} bytes long")


def _of_nothing(command: Command, query: OutputQuery, error: ApiError) -> web.Response:
    """Return the answer where nobody has what was asked for; `error` is what its node says."""
    whole = _size_of(command, query.stream)
    if command.final and whole == 0 and query.offset == 0:
        return web.Response(body=b"", headers=_fields(0, 0))
    if not command.final or query.offset > whole or error.code is not ErrorCode.RANGE_NOT_SATISFIABLE:
        raise error
    cut = (query.offset, whole) if query.offset < whole else None
    return web.Response(body=b"", headers=_fields(query.offset, None, cut))


def _lost(command: Command, query: OutputQuery, output: NodeOutput) -> tuple[int, int] | None:
    """Return from where to where the node has no longer what was asked for, of a command that has ended."""
    if not command.final or output.size_bytes is None or query.tail is not None:
        return None
    end = _size_of(command, query.stream)
    end = end if query.length is None else min(end, output.offset + query.length)
    return (output.size_bytes, end) if output.size_bytes < end else None


def _fields(offset: int, size_bytes: int | None, cut: tuple[int, int] | None = None) -> dict[str, str]:
    fields = {"Content-Type": "application/octet-stream", "Cache-Control": "no-store", OFFSET_FIELD: str(offset)}
    if size_bytes is not None:
        fields[SIZE_FIELD] = str(size_bytes)
    if cut is not None:
        fields[CUT_FIELD] = "{}-{}".format(*cut)
    return fields
