"""When links write: once per tick of the loop, all links from one callback, in as few and large pieces as is cheap."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

JOIN_BYTES: Final = 16 * 1024
"""Pieces smaller than this are joined, since a write and a TLS record each cost more than copying them."""


LATE_SECONDS: Final = 0.01
"""Output that nobody waits for may wait so long for other output to go with, and at most twice as long."""


class Flushable(Protocol):
    """Something that has output to write."""

    def flush(self) -> None:
        """Write it. Must not raise."""
        ...

    def flush_late(self) -> None:
        """Write what nobody waits for, if it has waited for a whole turn of the timer; else ask again.

        Must not raise.
        """
        ...


class Flusher:
    """Calls `flush` once, later in this tick or early in the next, for everything that asked for it.

    One for all links of a loop saves a callback for each link.
    """

    __slots__ = ("_call_soon", "_late", "_loop", "_requests")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._call_soon = loop.call_soon
        self._requests: list[Flushable] = []
        self._late: list[Flushable] = []

    def request(self, link: Flushable) -> None:
        """Have `link.flush` called. The link sees to it that it asks once."""
        requests = self._requests
        if not requests:
            self._call_soon(self._run)
        requests.append(link)

    def request_late(self, link: Flushable) -> None:
        """Have `link.flush_late` called within `LATE_SECONDS`. The link sees to it that it asks once."""
        late = self._late
        if not late:
            self._loop.call_later(LATE_SECONDS, self._run_late)
        late.append(link)

    def _run_late(self) -> None:
        late = self._late
        self._late = []
        for link in late:
            link.flush_late()

    def _run(self) -> None:
        requests = self._requests
        self._requests = []
        for link in requests:
            link.flush()


def write_pieces(transport: asyncio.WriteTransport, pieces: list[bytes | memoryview]) -> None:
    """Write all pieces in order, small ones joined, large ones as they are."""
    small: list[bytes | memoryview] = []
    joined: list[bytes | memoryview] = []
    for piece in pieces:
        if len(piece) < JOIN_BYTES:
            small.append(piece)
            continue
        if small:
            joined.append(b"".join(small))
            small = []
        joined.append(piece)
    if not joined:
        transport.write(b"".join(small))
        return
    if small:
        joined.append(b"".join(small))
    transport.writelines(joined)
