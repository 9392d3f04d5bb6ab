"""The relay's listening sockets, and what they tell of who connects.

What is set on a listening socket here, the sockets that it accepts inherit (Linux), so no connection pays for it.
"""

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any, Final

from relay.port.handshake_queue import Source

KEEPALIVE_IDLE_SECONDS: Final = 60
KEEPALIVE_INTERVAL_SECONDS: Final = 15
KEEPALIVE_PROBES: Final = 4
UNSENT_BYTES: Final = 256 * 1024
"""Of a connection, what the kernel takes beyond what the peer's window lets it send; without it, up to `tcp_wmem`."""
IPV4_MEMBERS: Final = 2
IPV6_SITE_BYTES: Final = 8


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
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, _, _, _, place in dict.fromkeys(found):
            try:
                sockets.append(opened.enter_context(_listen(family, place, backlog, shared=shared)))
            except OSError as error:
                # Names like localhost stand for addresses that the machine need not have.
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
        opened.pop_all()
    return sockets


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
        _keep_alive(listening)
        listening.bind(place)
        if backlog is not None:
            listening.listen(backlog)
    except BaseException:
        listening.close()
        raise
    return listening


def _keep_alive(listening: socket.socket) -> None:
    """Lets the kernel notice a sender that is gone without a word, since a quiet call has no deadline."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


def source_of(place: tuple[Any, ...]) -> Source:
    """Return what connections from this address are told apart by: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one IPv6 address commonly has all of its /64.

    Args:
        place: a socket's address; those of IPv6 have four members.
    """
    host: str = place[0]
    if len(place) == IPV4_MEMBERS:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:IPV6_SITE_BYTES]
