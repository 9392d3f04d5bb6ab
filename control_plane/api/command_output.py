"""`…/commands/{command_id}/output`: a command's output, streamed through from its node.

Nothing is kept here but the chunk in hand: the node is read only as fast as the caller reads. When the caller goes,
the stream to the node is reset. When the node is lost in the middle, it is read on where it broke (`NodeOutput`); if
it does not come back, the connection to the caller is cut, so that a part never looks like the whole, and the caller
resumes at its offset.
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
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.node_output import SIZE_FIELD, NodeOutput, Wanted
from control_plane.storage import commands
from control_plane.storage.commands import CommandKey
from control_plane.storage.records import Command
from trunkline.client.errors import TrunklineError

WRITE_SECONDS = 60.0
GONE_CHECK_SECONDS = 0.5
DELIVERY_CHECK_SECONDS = 1.0
DELIVERY_PAUSE_SECONDS = 0.02
OFFSET_FIELD = "Trunkline-Offset"


class OutputQuery(Query):
    """Which bytes: from `offset` on or the last `tail`, at most `length` of them; with `follow`, until the end."""

    stream: Literal["stdout", "stderr"] = "stdout"
    offset: int = Field(default=0, ge=0, lt=2**53)
    tail: int | None = Field(default=None, ge=0, lt=2**53)
    length: int | None = Field(default=None, ge=0, lt=2**53)
    follow: bool = False

    @model_validator(mode="after")
    def _one_beginning(self) -> "OutputQuery":
        if self.tail is not None and self.offset:
            raise ValueError("give offset or tail, not both")
        return self


class CommandOutputResource:
    """The output of commands."""

    def __init__(self, context: ApiContext, dispatcher: Dispatcher, nodes: NodeCommands) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._nodes = nodes

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH + "/{command_id}/output", Role.OPERATOR, self.read)]

    async def read(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Stream a command's output from an offset on."""
        query = read_query(request, OutputQuery)
        command = await self._command(request)
        if command.delivered:
            return await self._from_node(request, command, query)
        if query.offset > 0:
            raise ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, "the output is 0 bytes long")
        if command.final or not query.follow:
            return web.Response(body=b"", headers=_fields(0, 0), content_type="application/octet-stream")
        return await _stream(request, self._once_delivered(request, query), offset=0, size_bytes=0)

    async def _from_node(self, request: web.Request, command: Command, query: OutputQuery) -> web.StreamResponse:
        async with await self._output(request, command, query) as output:
            return await _stream(request, output.chunks(), offset=output.offset, size_bytes=output.size_bytes)

    async def _once_delivered(self, request: web.Request, query: OutputQuery) -> AsyncIterator[bytes]:
        """The output of a command that its node does not have yet; by then it has neither a tail nor an offset."""
        while not (command := await self._command(request)).delivered:
            if command.final:
                return
            await self._dispatcher.wait_for_steps(_key(command), 1, DELIVERY_CHECK_SECONDS)
            await asyncio.sleep(DELIVERY_PAUSE_SECONDS)
        from_its_beginning = query.model_copy(update={"tail": None})
        async with await self._output(request, command, from_its_beginning) as output:
            async for chunk in output.chunks():
                yield chunk

    async def _output(self, request: web.Request, command: Command, query: OutputQuery) -> NodeOutput:
        async def whole_size() -> int | None:
            return await self._whole_size(request, query.stream)

        wanted = Wanted(
            address=await self._address(command),
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
        return command.stdout_bytes if stream == "stdout" else command.stderr_bytes

    async def _command(self, request: web.Request) -> Command:
        async with self._context.database.read() as session:
            command, _ = await found(session, request)
        return command

    async def _address(self, command: Command) -> NodeAddress:
        async with self._context.database.read() as session:
            place = await commands.node_of(session, command)
        if place is None:
            raise ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node was deleted, and the command's output with it")
        return NodeAddress(*place)


def _key(command: Command) -> CommandKey:
    return CommandKey(command.workspace_id, command.command_id)


def _fields(offset: int, size_bytes: int | None) -> dict[str, str]:
    fields = {"Cache-Control": "no-store", OFFSET_FIELD: str(offset)}
    return fields if size_bytes is None else fields | {SIZE_FIELD: str(size_bytes)}


async def _stream(
    request: web.Request, chunks: AsyncIterator[bytes], *, offset: int, size_bytes: int | None
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"} | _fields(offset, size_bytes))
    await response.prepare(request)
    pump = asyncio.create_task(_pump(chunks, response), name="trunkline-output")
    try:
        while not (await asyncio.wait([pump], timeout=GONE_CHECK_SECONDS))[0]:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
        pump.result()
    except (ApiError, TrunklineError, TimeoutError):
        # The end must not look like the end of the output.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    finally:
        if not pump.done():
            pump.cancel()
            await asyncio.wait([pump])
    return response


async def _pump(chunks: AsyncIterator[bytes], response: web.StreamResponse) -> None:
    async for chunk in chunks:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(chunk)
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write_eof()
