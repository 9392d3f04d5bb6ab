"""`…/commands/{command_id}/output`: a command's output, streamed through from its node.

Nothing is kept here but the chunk in hand: the node is read only as fast as the caller reads. When the caller goes,
the stream to the node is reset; when the node is lost in the middle, the connection to the caller is cut, so that a
part never looks like the whole, and the caller resumes at its offset.
"""

import asyncio
from typing import Literal

from aiohttp import web
from pydantic import Field

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.commands import PATH, found
from control_plane.api.context import ApiContext
from control_plane.api.requests import Query, read_query
from control_plane.errors import ApiError, ErrorCode
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.node_commands import NodeAddress, NodeCommands
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from control_plane.storage import commands
from control_plane.storage.commands import CommandKey
from control_plane.storage.records import Command
from trunkline.client.errors import TrunklineError
from trunkline.client.node_response import NodeResponse

WRITE_SECONDS = 60.0
GONE_CHECK_SECONDS = 0.5
DELIVERY_CHECK_SECONDS = 1.0
DELIVERY_PAUSE_SECONDS = 0.02
LARGEST_REFUSAL_BYTES = 64 * 1024
SIZE_FIELD = "Trunkline-Size"


class OutputQuery(Query):
    """Which bytes."""

    stream: Literal["stdout", "stderr"] = "stdout"
    offset: int = Field(default=0, ge=0, lt=2**53)
    follow: bool = False


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
        command = await self._delivered(request, wait=query.follow)
        if not command.delivered:
            return _nothing_yet(query)
        address = await self._address(command)
        answer = await self._open(address, command, query)
        async with answer.response:
            if answer.response.status != 200:
                raise await _refusal(answer)
            return await _stream(request, answer.response)

    async def _delivered(self, request: web.Request, *, wait: bool) -> Command:
        """Return the command, once the node has it if that is to be waited for."""
        while True:
            async with self._context.database.read() as session:
                command, _ = await found(session, request)
            if command.delivered or command.final or not wait:
                return command
            key = CommandKey(command.workspace_id, command.command_id)
            await self._dispatcher.wait_for_steps(key, 1, DELIVERY_CHECK_SECONDS)
            await asyncio.sleep(DELIVERY_PAUSE_SECONDS)
            if request.transport is None:
                raise ConnectionResetError

    async def _address(self, command: Command) -> NodeAddress:
        async with self._context.database.read() as session:
            place = await commands.node_of(session, command)
        if place is None:
            raise ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node was deleted, and the command's output with it")
        return NodeAddress(*place)

    async def _open(self, address: NodeAddress, command: Command, query: OutputQuery) -> NodeAnswer:
        try:
            return await self._nodes.output(
                address, command.command_id, stream=query.stream, offset=query.offset, follow=query.follow
            )
        except (NotReachedError, UnansweredError) as error:
            raise ApiError(
                ErrorCode.NODE_UNREACHABLE, f"the node cannot be asked at present: {error}", retry_after_seconds=1
            ) from None


def _nothing_yet(query: OutputQuery) -> web.Response:
    if query.offset > 0:
        raise ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, "the output is 0 bytes long")
    return web.Response(body=b"", content_type="application/octet-stream", headers={SIZE_FIELD: "0"})


async def _refusal(answer: NodeAnswer) -> ApiError:
    status = answer.response.status
    try:
        await answer.response.read(limit_bytes=LARGEST_REFUSAL_BYTES, timeout_seconds=WRITE_SECONDS)
    except TrunklineError as error:
        return ApiError(ErrorCode.NODE_UNREACHABLE, f"the node cannot be asked at present: {error}")
    if status == 416:
        return ApiError(ErrorCode.RANGE_NOT_SATISFIABLE, "offset lies beyond the end of the output")
    if status in (404, 410):
        return ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node no longer keeps the output of this command")
    return ApiError(ErrorCode.BAD_NODE_RESPONSE, f"the node answered {status}")


async def _stream(request: web.Request, source: NodeResponse) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream", "Cache-Control": "no-store"})
    size = source.get(SIZE_FIELD)
    if size.isascii() and size.isdigit():
        response.headers[SIZE_FIELD] = size
    await response.prepare(request)
    pump = asyncio.create_task(_pump(source, response), name="trunkline-output")
    try:
        while not (await asyncio.wait([pump], timeout=GONE_CHECK_SECONDS))[0]:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError
        pump.result()
    except (TrunklineError, TimeoutError):
        # The end must not look like the end of the output.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError from None
    finally:
        if not pump.done():
            pump.cancel()
            await asyncio.wait([pump])
    return response


async def _pump(source: NodeResponse, response: web.StreamResponse) -> None:
    async for chunk in source:
        async with asyncio.timeout(WRITE_SECONDS):
            await response.write(chunk)
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write_eof()
