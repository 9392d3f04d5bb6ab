"""The relay's listening sockets.

What is set on a listening socket here, the sockets that it accepts inherit (Linux), so no connection pays for it.
"""

import socket
from typing import Any, Final

from trunkline.runtime.listening import keep_alive, listen_everywhere

UNSENT_BYTES: Final = 256 * 1024
"""Of a connection, what the kernel takes beyond what the peer's window lets it send; without it, up to `tcp_wmem`."""


async def open_listening(address: str, port: int, *, backlog: int | None, shared: bool = False) -> list[socket.socket]:
    """Listen on every address that the name stands for, IPv4 and IPv6 each with a socket of its own.

    Args:
        address: an IP address or a host name; `0.0.0.0` and `::` are every address of their family, empty both.
        port: 0 lets the system pick one.
        backlog: how many connections may wait to be accepted; the system's own bound holds as well. None reserves the
            addresses, and does not listen.
        shared: other processes of this user may have the addresses too; those that listen share what comes.

    Raises:
        OSError: the name stands for nothing, or none of its addresses can be listened on.
    """
    return await listen_everywhere(address, port, lambda family, place: _listen(family, place, backlog, shared=shared))


def _listen(family: int, place: Any, backlog: int | None, *, shared: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        keep_alive(listening)
        listening.bind(place)
        if backlog is not None:
            listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening
