"""`GET /v1/commands/{command_id}/output/times`: when a command wrote what."""

import asyncio

from aiohttp import web

from node_agent.api.commands import command_id_of, number_in, refuse_bound, stream_in
from node_agent.api.routing import ApiRefused, caller_of, json_response
from node_agent.commands.ledger import CommandLedger
from node_agent.commands.output_times import read_marks

TIMES_KEYS = ("stream", "offset", "limit")
MOST_MARKS = 4096


class OutputTimesApi:
    """Answers for the times of outputs."""

    def __init__(self, ledger: CommandLedger) -> None:
        self._ledger = ledger

    async def times(self, request: web.Request) -> web.StreamResponse:
        """Return marks: the time of the byte at `offset`, and of those that follow, `limit` marks at most."""
        refuse_bound(caller_of(request))
        command = self._ledger.get(command_id_of(request))
        stream, query = stream_in(request), request.query
        offset = number_in(query.get("offset", "0"), "offset")
        limit = number_in(query.get("limit", str(MOST_MARKS)), "limit")
        if not 1 <= limit <= MOST_MARKS:
            raise ApiRefused(400, "INVALID_PARAMETER_VALUE", f"limit is 1 to {MOST_MARKS}")
        path = self._ledger.store.spool_path(command.command_id, stream)
        page = await asyncio.to_thread(read_marks, path, offset, limit)
        document: dict[str, object] = {"times": [mark._asdict() for mark in page.marks]}
        if page.next_offset is not None:
            document["next_offset"] = page.next_offset
        return json_response(document)
