"""Joining two connections byte for byte, with half-close, until both directions have ended."""

from __future__ import annotations

import asyncio
import contextlib

PIECE_BYTES = 65_536


async def join(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways; the end of one side becomes the end of the other, and a broken side breaks the other."""
    copies = [
        asyncio.ensure_future(_copy(near_reader, far_writer)),
        asyncio.ensure_future(_copy(far_reader, near_writer)),
    ]
    try:
        await asyncio.wait(copies, return_when=asyncio.FIRST_EXCEPTION)
        if any(copy.done() and copy.exception() is not None for copy in copies):
            near_writer.transport.abort()
            far_writer.transport.abort()
    finally:
        for copy in copies:
            copy.cancel()
        await asyncio.gather(*copies, return_exceptions=True)
        await close(near_writer)
        await close(far_writer)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until it is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
