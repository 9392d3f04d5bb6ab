"""The large output of one sender: what comes in pieces within one turn of the loop leaves together.

A read of a node's link ends within a frame as often as not, so that a download comes in two pieces for each read. Each
write is a system call and wakes the reader, which costs more than half of what the bytes themselves cost. Small output
is written at once, unless large output waits that it has to follow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from trunkline.channel.bodies import Chunk
from trunkline.channel.flushing import JOIN_BYTES, write_pieces
from trunkline.channel.link_stream import TURN_BYTES


class SenderOutput:
    """Writes to one transport; at most `TURN_BYTES` wait, and not beyond the turn of the loop."""

    __slots__ = ("_call_soon", "_pieces", "_requested", "_transport", "_waiting_bytes")

    def __init__(self, transport: asyncio.Transport, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._transport = transport
        self._call_soon = call_soon
        self._pieces: list[Chunk] = []
        self._waiting_bytes = 0
        self._requested = False

    def write(self, data: Chunk) -> None:
        """Sends bytes, behind what waits; they are not copied and must not change."""
        size = len(data)
        if self._waiting_bytes and self._waiting_bytes + size > TURN_BYTES:
            self.flush()
        if not self._waiting_bytes and (size < JOIN_BYTES or size >= TURN_BYTES):
            self._transport.write(data)
            return
        self._pieces.append(data)
        self._waiting_bytes += size
        if not self._requested:
            self._requested = True
            self._call_soon(self._turn_ended)

    def flush(self) -> None:
        """Writes what waits."""
        if self._waiting_bytes:
            pieces, self._pieces = self._pieces, []
            self._waiting_bytes = 0
            write_pieces(self._transport, pieces)

    def drop(self) -> None:
        """Forgets what waits: the connection is gone."""
        self._pieces = []
        self._waiting_bytes = 0

    def _turn_ended(self) -> None:
        self._requested = False
        self.flush()
