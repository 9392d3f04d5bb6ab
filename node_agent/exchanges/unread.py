"""What a service had said when the connection to it broke, and nobody has read.

A service that answers before it has read the whole request, and closes, has its system break the connection: the answer
is in the caller's kernel by then, and the next write fails. Transports read no further behind a failed write.
"""

import asyncio
import os
from collections.abc import Iterator

MOST_UNREAD_BYTES = 256 * 1024
PIECE_BYTES = 64 * 1024


def unread_pieces(transport: asyncio.Transport) -> Iterator[bytes]:
    """Read what the kernel still has of a broken connection, at most `MOST_UNREAD_BYTES`; the socket is not closed yet.

    Where it ends says nothing about whether the service had come to its end.
    """
    connection = transport.get_extra_info("socket")
    descriptor = -1 if connection is None else connection.fileno()
    left_bytes = MOST_UNREAD_BYTES if descriptor >= 0 else 0
    while left_bytes > 0:
        try:
            piece = os.read(descriptor, min(left_bytes, PIECE_BYTES))
        except OSError:
            return
        if not piece:
            return
        left_bytes -= len(piece)
        yield piece
