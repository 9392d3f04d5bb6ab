"""The events of a command as they happen, resumed behind the last one that came, whatever breaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

from trunkline.client.command_output import SILENCE_SECONDS, Opening
from trunkline.client.errors import BadResponse, TrunklineError
from trunkline.client.pages import read_record
from trunkline.client.records.commands import CommandEvent
from trunkline.client.resumption import Resumption

LONGEST_LINE_BYTES = 1_048_576


async def follow_events(transport: Opening, path: str, after: int) -> AsyncIterator[CommandEvent]:
    """The events behind the one with the id `after`, until the command has ended.

    A connection on which nothing comes for `SILENCE_SECONDS` is made again, since it may be dead.

    Raises:
        TrunklineError: nobody answered for two minutes, or what came cannot be read.
    """
    resumption = Resumption()
    while True:
        try:
            async for event in _follow(transport, path, after):
                after = max(after, event.event_id)
                resumption.progress()
                yield event
        except TimeoutError:
            resumption.progress()
        except TrunklineError as error:
            await resumption.wait_or_raise(error)
        else:
            return


async def _follow(transport: Opening, path: str, after: int) -> AsyncIterator[CommandEvent]:
    query: dict[str, str | int | None] = {"follow": "true", "after": after}
    held = b""
    async with transport.stream(path, query=query, head_seconds=SILENCE_SECONDS) as body:
        pieces = aiter(body.pieces)
        while piece := await _next(pieces):
            *lines, held = (held + piece).split(b"\n")
            for line in filter(None, lines):
                yield _event(line)
            if len(held) > LONGEST_LINE_BYTES:
                raise BadResponse("an event of the control plane is longer than any event is")


async def _next(pieces: AsyncIterator[bytes]) -> bytes:
    async with asyncio.timeout(SILENCE_SECONDS):
        return await anext(pieces, b"")


def _event(line: bytes) -> CommandEvent:
    try:
        document = json.loads(line)
    except ValueError:
        raise BadResponse("an event of the control plane is not JSON") from None
    return read_record(CommandEvent, document)
