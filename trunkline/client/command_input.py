"""A command's standard input as its sender brings it: every byte once, in order, whatever breaks on the way.

Theory of operation. What comes is collected, `AHEAD_BYTES` at most, while the part before it is on its way. A part is
what has come by the time at which it is sent, so that little goes at once and much goes in few parts; it is kept until
the node has said that it has it. A part whose answer was lost is sent again: it says where it belongs, and the node
passes over what it has. A node that has not taken a whole part, since the command is slow to read, is sent the rest.
Without any answer for the patience that was given, the last error is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, replace

from trunkline.client.errors import BadResponse, TrunklineError
from trunkline.client.records.commands import InputStanding
from trunkline.client.resumption import RESUME_SECONDS, Resumption

PART_BYTES = 1024 * 1024
AHEAD_BYTES = 2 * PART_BYTES
NO_ROOM_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class InputPart:
    """A part of an input: where it begins, and whether it is the last."""

    content: bytes
    offset: int
    last: bool

    def without(self, size_bytes: int) -> InputPart:
        """What is left of it behind its first bytes."""
        return replace(self, content=self.content[size_bytes:], offset=self.offset + size_bytes)


Put = Callable[[InputPart], Awaitable[InputStanding]]
"""Brings a part to the node once, and says how far the input has come there; raises `TrunklineError`."""


class InputSender:
    """Sends one input."""

    def __init__(self, put: Put, *, patience_seconds: float | None = RESUME_SECONDS) -> None:
        self._put = put
        self._patience_seconds = patience_seconds

    async def send(self, pieces: AsyncIterable[bytes]) -> InputStanding:
        """Send it all, and its end; returns once the node has it, or the command reads nothing any more.

        Raises:
            TrunklineError: it cannot be brought; nobody was told of its end.
        """
        collected = _Collected()
        collecting = asyncio.create_task(collected.collect(pieces), name="trunkline-input")
        try:
            offset = 0
            while True:
                content, last = await collected.next()
                if last:
                    await collecting  # which raises what went wrong with the pieces
                standing = await self._bring(InputPart(content, offset, last))
                offset += len(content)
                if last or standing.closed:
                    return standing
        finally:
            collecting.cancel()
            await asyncio.wait([collecting])

    async def _bring(self, part: InputPart) -> InputStanding:
        resumption = Resumption(self._patience_seconds)
        while True:
            try:
                standing = await self._put(part)
            except TrunklineError as error:
                await resumption.wait_or_raise(error)
                continue
            resumption.progress()
            taken = standing.received_bytes - part.offset
            if standing.closed or (taken >= len(part.content) and (standing.complete or not part.last)):
                return standing
            if taken < 0:
                raise BadResponse("the node has lost a part of the input that it had taken")
            part = part.without(taken)
            if not taken:
                await asyncio.sleep(NO_ROOM_PAUSE_SECONDS)


class _Collected:
    """What has come and was not sent yet."""

    def __init__(self) -> None:
        self._content = bytearray()
        self._ended = False
        self._changed = asyncio.Event()

    async def collect(self, pieces: AsyncIterable[bytes]) -> None:
        """Take pieces as long as there is room for more."""
        try:
            async for piece in pieces:
                self._content += piece
                self._changed.set()
                while len(self._content) >= AHEAD_BYTES:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self._ended = True
            self._changed.set()

    async def next(self) -> tuple[bytes, bool]:
        """What has come, `PART_BYTES` at most, once something has, and whether that is the end."""
        while not self._content and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        content = bytes(self._content[:PART_BYTES])
        del self._content[:PART_BYTES]
        self._changed.set()
        return content, self._ended and not self._content
