"""`PUT /v1/commands/{command_id}/stdin`: a part of a standard input that follows its command."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from node_agent.api.bodies import read_body
from node_agent.api.commands import check_command, command_id_of, number_in
from node_agent.api.routing import ApiRefused, caller_of, json_response
from node_agent.commands.ledger import CommandLedger
from node_agent.exchanges.callers import Caller

STDIN_KEYS = ("offset", "end")
LARGEST_BOUND_PART_BYTES = 4 * 1024 * 1024
BOUND_PART_SECONDS = 120.0


class CommandInputApi:
    """Takes the standard input of commands."""

    def __init__(self, ledger: CommandLedger, *, stall_seconds: float) -> None:
        self._ledger = ledger
        self._stall_seconds = stall_seconds

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take a part, from `offset` on; the answer says how far the input has come, and whether it is still read.

        What a token is bound to is read whole before any of it is kept: `LARGEST_BOUND_PART_BYTES` at most.
        """
        caller, command_id = caller_of(request), command_id_of(request)
        check_command(caller, command_id)
        offset, complete = _query(request)
        chunks, bound = self._chunks(request), caller.claims.binding is not None
        if bound:
            chunks = _one(await self._bound_part(request, caller, offset, complete=complete))
        taken = await self._ledger.take_stdin(
            command_id, caller.subject, offset, chunks, complete=complete, bound=bound
        )
        return json_response(
            {
                "command_id": command_id,
                "received_bytes": taken.size_bytes,
                "complete": complete and taken.whole,
                "closed": taken.closed,
            }
        )

    async def _bound_part(self, request: web.Request, caller: Caller, offset: int, *, complete: bool) -> bytes:
        binding = caller.claims.binding
        async with asyncio.timeout(BOUND_PART_SECONDS):
            part = await read_body(request, self._chunks(request), largest_bytes=LARGEST_BOUND_PART_BYTES)
        if binding is None or binding.command_id is None or not binding.covers_stdin(part, offset, complete=complete):
            raise ApiRefused(403, "PERMISSION_DENIED", "the token is bound to something else than this part")
        return part

    async def _chunks(self, request: web.Request) -> AsyncIterator[bytes]:
        """Yield the content as it comes; a caller that sends nothing for too long is given up."""
        while True:
            async with asyncio.timeout(self._stall_seconds):
                chunk = await request.content.readany()
            if not chunk:
                return
            yield chunk


async def _one(content: bytes) -> AsyncIterator[bytes]:
    yield content


def _query(request: web.Request) -> tuple[int, bool]:
    query = request.query
    end = query.get("end", "false")
    if end not in ("true", "false"):
        raise ApiRefused(400, "INVALID_PARAMETER_VALUE", "end is true or false")
    return number_in(query.get("offset", "0"), "offset"), end == "true"
