"""`…/commands/{command_id}/stdin`: the standard input of a command that was submitted with `stdin_stream`.

What comes is passed on to the node in blocks of `BLOCK_BYTES`, each by a call of its own whose token is good for that
block at that place only, so that no relay can change, move or end an input. A block is read from the caller once the
node has the one before it: nothing else is held here, and a caller is read only as fast as the node takes. The answer
says how far the node has got, also when that is not the whole of what was sent; the caller goes on from there. Of a
command that reads nothing any more it says so (`closed`), as a pipe would.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import StreamReader, web
from pydantic import BaseModel, Field, ValidationError

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.commands import PATH, found
from control_plane.api.context import ApiContext
from control_plane.api.requests import Query, read_query
from control_plane.api.responses import json_response
from control_plane.errors import ApiError, ErrorCode, conflict
from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.node_commands import InputPart, NodeAddress, NodeCommands
from control_plane.fleet.node_output import not_reached
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from control_plane.history.command_audit import about
from control_plane.storage import commands
from control_plane.storage.audit import Happening, append
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command
from trunkline.client.errors import TrunklineError

BLOCK_BYTES = 1024 * 1024
STALL_SECONDS = 60.0
DELIVERY_SECONDS = 10.0
DELIVERY_CHECK_SECONDS = 1.0
DELIVERY_PAUSE_SECONDS = 0.02
LARGEST_ANSWER_BYTES = 64 * 1024
ANSWER_SECONDS = 10.0
_REFUSALS = {
    403: ErrorCode.PERMISSION_DENIED,
    404: ErrorCode.RESOURCE_DOES_NOT_EXIST,
    413: ErrorCode.REQUEST_TOO_LARGE,
    416: ErrorCode.RANGE_NOT_SATISFIABLE,
    507: ErrorCode.INSUFFICIENT_STORAGE,
}
_AGAIN = frozenset({408, 429, 503})


class InputQuery(Query):
    """Where in the input the body begins, and whether nothing follows it."""

    offset: int = Field(default=0, ge=0, lt=2**53)
    end: bool = False


class _Standing(BaseModel):
    """How far the node says that the input has come; what else it says is of another release."""

    received_bytes: int = Field(ge=0)
    complete: bool
    closed: bool = False


class CommandInputResource:
    """The standard input of commands."""

    def __init__(self, context: ApiContext, dispatcher: Dispatcher, nodes: NodeCommands) -> None:
        self._context = context
        self._dispatcher = dispatcher
        self._nodes = nodes

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("PUT", PATH + "/{command_id}/stdin", Role.OPERATOR, self.bring, query=True)]

    async def bring(self, request: web.Request, caller: Caller) -> web.Response:
        """Pass a part of a command's standard input on to its node; the answer says how far the node has got."""
        query = read_query(request, InputQuery)
        command = await self._delivered(request)
        if command.final:
            ended = _Standing(received_bytes=0, complete=False, closed=True)
            return _answer(command, ended)
        address, offset = await self._address(command), query.offset
        async for block, last in _blocks(request.content):
            part = InputPart(block, offset, complete=query.end and last)
            standing = await self._bring(address, command.command_id, part)
            offset += len(block)
            if standing.closed or standing.complete or standing.received_bytes < offset:
                break
        if standing.complete:
            await self._audit(command, standing.received_bytes, caller)
        return _answer(command, standing)

    async def _audit(self, command: Command, size_bytes: int, caller: Caller) -> None:
        """Note who has brought a command the end of its input; one whose answer was lost brings it again."""
        async with self._context.database.write() as session:
            submission = await commands.find_submission(session, command.workspace_id, command.submission_id)
            happening = Happening(
                "command.stdin",
                resource=command.command_id,
                workspace_id=command.workspace_id,
                details=about(command, submission) | {"stdin_bytes": size_bytes},
            )
            append(session, self._context.clock.now(), caller.actor, happening)

    async def _delivered(self, request: web.Request) -> Command:
        """Return the command once its node has it, or it has ended.

        Raises:
            ApiError: there is none, or its node does not have it yet.
        """
        deadline = self._context.clock.monotonic() + DELIVERY_SECONDS
        while True:
            async with self._context.database.read() as session:
                command, _ = await found(session, request)
            if command.delivered or command.final:
                return command
            if self._context.clock.monotonic() >= deadline:
                raise not_reached(Exception("it does not have the command yet"))
            key = CommandKey(command.workspace_id, command.command_id)
            await self._dispatcher.wait_for_steps(key, 1, DELIVERY_CHECK_SECONDS)
            await asyncio.sleep(DELIVERY_PAUSE_SECONDS)

    async def _bring(self, address: NodeAddress, command_id: str, part: InputPart) -> _Standing:
        try:
            answer = await self._nodes.stdin(address, command_id, part)
            body = await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=ANSWER_SECONDS)
        except (NotReachedError, UnansweredError, TrunklineError) as error:
            raise not_reached(error) from None
        if answer.response.status != 200:
            raise _refusal(answer, body)
        try:
            return _Standing.model_validate_json(body)
        except ValidationError:
            raise ApiError(ErrorCode.BAD_NODE_RESPONSE, "the node's answer could not be read") from None

    async def _address(self, command: Command) -> NodeAddress:
        async with self._context.database.read() as session:
            place = await commands.node_of(session, command)
        if place is None:
            raise ApiError(ErrorCode.RESOURCE_DOES_NOT_EXIST, "the node was deleted")
        return NodeAddress(*place)


async def _blocks(content: StreamReader) -> AsyncIterator[tuple[bytes, bool]]:
    """Yield what comes in blocks, at least one, each with whether it is the last.

    Raises:
        ApiError: nothing more comes.
        ConnectionResetError: the caller has gone.
    """
    last = False
    while not last:
        block = bytearray()
        while len(block) < BLOCK_BYTES and not last:
            try:
                async with asyncio.timeout(STALL_SECONDS):
                    block += await content.read(BLOCK_BYTES - len(block))
            except TimeoutError:
                raise ApiError(ErrorCode.REQUEST_TIMEOUT, "nothing more of the input came") from None
            except (web.RequestPayloadError, ValueError):
                raise ConnectionResetError from None  # the caller has gone, and knows how to go on
            last = content.at_eof()
        yield bytes(block), last


def _answer(command: Command, standing: _Standing) -> web.Response:
    return json_response({"command_id": command.command_id, **standing.model_dump()})


def _refusal(answer: NodeAnswer, body: bytes) -> ApiError:
    """Return what a node's refusal of input means for whoever brings it."""
    status, said = answer.response.status, _object_in(body)
    message = str(said.get("message", ""))[:400]
    if status == 409 and said.get("error_code") != "ABORTED":
        return conflict(f"the node takes no input for this command: {message}")
    if status in _AGAIN or status == 409:
        return not_reached(Exception(f"it answered {status}: {message}"))
    if status in _REFUSALS:
        return ApiError(_REFUSALS[status], f"the node does not take the input: {message}")
    return ApiError(ErrorCode.BAD_NODE_RESPONSE, f"the node answered {status}")


def _object_in(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        if isinstance(document, dict):
            return document
    return {}
