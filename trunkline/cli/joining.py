"""Joining two connections byte for byte, with half-close, until both directions have ended."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Protocol

PIECE_BYTES = 65_536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger, socket(7): on, for 0 seconds


class Reads(Protocol):
    """Gives bytes."""

    async def read(self, size: int, /) -> bytes:
        """At most so many, as they come; none at the end."""
        ...


async def join(
    near_reader: Reads,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways between a local program (near) and a node (far).

    The end of one side becomes the end of the other, and a broken side, or a cancellation, breaks the other.
    """
    copies = [
        asyncio.ensure_future(_copy(near_reader, far_writer)),
        asyncio.ensure_future(_copy(far_reader, near_writer)),
    ]
    whole = False
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_EXCEPTION)
        whole = all(copy.done() and copy.exception() is None for copy in copies)
    finally:
        if not whole:
            break_off(near_writer)
            far_writer.transport.abort()
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        await close(near_writer)
        await close(far_writer)


def break_off(writer: asyncio.StreamWriter) -> None:
    """End a local program's connection by a reset, so that it cannot take a part for the whole."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until it is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: Reads, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
