"""Output on its way: what the kernel takes in before the peer's window lets it go, and what is not taken yet."""

import asyncio
import contextlib
import fcntl
import socket
import struct
import sys
import termios
from typing import Final, Protocol

UNSENT_BYTES: Final = 128 * 1024
"""What is unsent waits in the kernel in front of every frame that comes later; without a bound, up to `tcp_wmem`."""
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


class Buffering(Protocol):
    """A transport, or what is written to like one."""

    def get_write_buffer_size(self) -> int:
        """Bytes that were written and wait."""
        ...


def keep_little_unsent(transport: asyncio.BaseTransport) -> None:
    """Bound what the kernel holds unsent of a TCP connection to `UNSENT_BYTES`, where the system has that bound.

    The transport is then full while streams can still take turns, and a small frame need not wait behind megabytes.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in _INTERNET and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)


def reset_at_close(transport: asyncio.BaseTransport) -> None:
    """Have a TCP connection end with a reset when it is closed: whatever the kernel holds of it is dropped.

    That is for a peer that has fallen silent. An ordered end waits in line behind bytes that nobody has acknowledged:
    where only the peer's packets are lost it would hear of the end many seconds later, as retransmissions get rarer.
    """
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in _INTERNET:
        with contextlib.suppress(OSError):  # closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)


def unsent_bytes(transport: Buffering) -> int:
    """Return what this process still holds of what was written, in bytes.

    `get_write_buffer_size` of the fast loop's TLS leaves out what is encrypted already, up to 64 KiB. Of one that has
    let go of its connection nobody knows any more: 0.
    """
    if _has_let_go(transport):
        return 0
    everything = getattr(transport, "get_local_write_buffer_size", None)
    size: int = transport.get_write_buffer_size() if everything is None else everything()
    return size


def untaken_bytes(transport: asyncio.WriteTransport) -> int:
    """Return what the peer's system has not acknowledged yet of what was written, in bytes.

    Of what is no TCP connection, and where the system does not tell, that is what this process still holds; as with
    `unsent_bytes`, 0 of one that has let go of its connection.
    """
    if _has_let_go(transport):
        return 0
    connection = transport.get_extra_info("socket")
    return unsent_bytes(transport) + (_unacknowledged_bytes(connection) if connection is not None else 0)


def _has_let_go(transport: object) -> bool:
    """Whether it is asyncio's TLS, closed a second time: whatever it is asked then, it ends with an AttributeError."""
    return getattr(transport, "_ssl_protocol", transport) is None


def _unacknowledged_bytes(connection: socket.socket) -> int:
    """SIOCOUTQ, tcp(7); the number of the request is that of TIOCOUTQ."""
    if connection.family not in _INTERNET or connection.fileno() < 0:
        return 0
    try:
        return int.from_bytes(fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    except OSError:
        return 0
