"""`…/commands/{command_id}/events`: what has happened to a command, page by page, or followed until it has ended.

Followed, each event is one line of JSON (`application/x-ndjson`) as soon as it is committed. A connection that ends
without the last chunk was cut: go on after the last event that came, with `after`.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from pydantic import Field, model_validator

from control_plane.api.callers import Caller, Role, Route
from control_plane.api.commands import PATH, found
from control_plane.api.context import ApiContext
from control_plane.api.pages import PageQuery
from control_plane.api.requests import read_query
from control_plane.api.responses import json_response
from control_plane.api.streaming import stream
from control_plane.history.bell import Bell
from control_plane.storage import command_events
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import CommandEvent

LOOK_AGAIN_SECONDS = 5.0
BATCH = 100


class EventQuery(PageQuery):
    """Which events: those after the id `after`; followed or in pages."""

    follow: bool = False
    after: int = Field(default=0, ge=0, lt=2**53)

    @model_validator(mode="after")
    def _one_way(self) -> "EventQuery":
        if self.follow and self.page_token is not None:
            raise ValueError("give follow or page_token, not both")
        return self


class CommandEventResource:
    """The events of commands."""

    def __init__(self, context: ApiContext, bell: Bell) -> None:
        self._context = context
        self._bell = bell

    def routes(self) -> list[Route]:
        """Return the routes of this resource."""
        return [Route("GET", PATH + "/{command_id}/events", Role.OPERATOR, self.read, query=True)]

    async def read(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """List the events of a command, or follow them."""
        query = read_query(request, EventQuery)
        asked = self._context.pages.asked_for(request.path, query)
        async with self._context.database.read() as session:
            command, _ = await found(session, request)
            key = CommandKey(command.workspace_id, command.command_id)
            after = asked.after(int)
            rows = await command_events.list_after(
                session, key, after=query.after if after is None else after, most=asked.most_rows
            )
        if query.follow:
            lines = self._lines(request, key, query.after)
            return await stream(request, lines, {"Content-Type": "application/x-ndjson"})
        page, next_page = asked.cut(rows, lambda row: (row.event_id,))
        return json_response({"events": [_view(row) for row in page]} | next_page)

    async def _lines(self, request: web.Request, key: CommandKey, after: int) -> AsyncIterator[bytes]:
        with self._bell.listening(key) as rung:
            while True:
                rung.clear()
                async with self._context.database.read() as session:
                    command, _ = await found(session, request)
                    rows = await command_events.list_after(session, key, after=after, most=BATCH)
                for row in rows:
                    yield json.dumps(_view(row), separators=(",", ":")).encode() + b"\n"
                    after = row.event_id
                if len(rows) == BATCH:
                    continue
                if command.final:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_SECONDS):
                        await rung.wait()


def _view(row: CommandEvent) -> dict[str, Any]:
    return {"event_id": row.event_id, "time": row.time, "event": row.event, "details": row.details}
