"""How much of a link's output the kernel takes in before the peer's window lets it go out."""

import asyncio
import socket
from typing import Final

UNSENT_BYTES: Final = 128 * 1024
"""What is unsent waits in the kernel in front of every frame that comes later; without a bound, up to `tcp_wmem`."""
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def keep_little_unsent(transport: asyncio.BaseTransport) -> None:
    """Bound what the kernel holds unsent of a TCP connection to `UNSENT_BYTES`, where the system has that bound.

    The transport is then full while streams can still take turns, and a small frame need not wait behind megabytes.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in _INTERNET and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
