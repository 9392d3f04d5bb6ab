"""Events as they come, each once, whatever breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest

from tests.support.virtual_time import in_virtual_time
from trunkline.client.api_transport import Query, StreamedBody
from trunkline.client.command_events import follow_events
from trunkline.client.errors import BadResponse, Unreachable
from trunkline.client.resumption import RESUME_SECONDS


class Service:
    """A hundred events, of which each request gives a few and then breaks, until the last are given."""

    def __init__(self, *, silent: bool = False, garbage: bool = False, slow_seconds: float = 0.0) -> None:
        self.silent = silent
        self.slow_seconds = slow_seconds
        self.garbage = garbage
        self.requests = 0

    @asynccontextmanager
    async def stream(
        self, path: str, *, query: Query | None = None, head_seconds: float | None = None
    ) -> AsyncIterator[StreamedBody]:
        assert isinstance(query, Mapping)
        assert query["follow"] == "true"
        self.requests += 1
        yield StreamedBody(self._pieces(int(query["after"] or 0)), {})

    async def _pieces(self, after: int) -> AsyncIterator[bytes]:
        numbers = range(after + 1, min(after + 8, 101))
        text = b"".join(json.dumps({"event_id": number, "event": "x"}).encode() + b"\n" for number in numbers)
        await asyncio.sleep(self.slow_seconds)
        if self.garbage:
            text = b"{no json\n"
        yield text[:50]
        if self.silent:
            await asyncio.sleep(3600)
        yield text[50:]
        if after + 8 < 101:
            yield b'{"event_id": 999'
            raise Unreachable("the connection was lost", perhaps_arrived=True)


@pytest.mark.parametrize("silent", [False, True])
def test_each_event_once(silent: bool) -> None:
    @in_virtual_time
    async def run() -> None:
        service = Service(silent=silent)
        numbers = []
        async for event in follow_events(service, "/events", 0):
            numbers.append(event.event_id)
            service.silent = silent and len(numbers) < 3
        assert numbers == list(range(1, 101))
        assert service.requests > 10

    run()


@in_virtual_time
async def test_events_that_break_now_and_then_are_followed_for_as_long_as_they_come() -> None:
    events = [event async for event in follow_events(Service(slow_seconds=20.0), "/events", 0)]
    assert len(events) == 100
    assert asyncio.get_running_loop().time() > 2 * RESUME_SECONDS


@in_virtual_time
async def test_what_is_no_event_is_a_typed_error() -> None:
    with pytest.raises(BadResponse):
        await anext(follow_events(Service(garbage=True), "/events", 0))
