"""Sockets that listen, and what tells apart those who connect to them."""

import asyncio
import errno
import socket
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from typing import Any, Final

Source = Hashable
"""What connections are told apart by; see `source_of`."""

Listen = Callable[[int, tuple[Any, ...]], socket.socket]
"""Opens a socket of a family that listens at a place."""

KEEPALIVE_IDLE_SECONDS: Final = 60
KEEPALIVE_INTERVAL_SECONDS: Final = 15
KEEPALIVE_PROBES: Final = 4
IPV6_SITE_BYTES: Final = 8
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def listen_on(family: int, place: tuple[Any, ...], *, backlog: int) -> socket.socket:
    """Return a socket that listens, for a loop to accept from; connections inherit its options (Linux).

    Raises:
        OSError: there is no such address, or it is taken.
    """
    listening = socket.create_server(place, family=family, backlog=backlog)
    listening.setblocking(False)
    # Loops do that to sockets of their own only; without it small answers wait 40 ms for an acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive(listening)
    return listening


def keep_alive(listening: socket.socket) -> None:
    """Let the kernel notice within two minutes who is gone without a word: what is quiet has no deadline."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)


async def listen_everywhere(address: str, port: int, listen: Listen) -> list[socket.socket]:
    """Listen on every address that the name stands for, IPv4 and IPv6 each with a socket of its own.

    Args:
        address: an IP address or a host name; `0.0.0.0` and `::` are every address of their family, empty both.
        port: 0 lets the system pick one.
        listen: opens each of them.

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
                sockets.append(opened.enter_context(listen(family, place)))
            except OSError as error:
                # Names like localhost stand for addresses that the machine need not have.
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if missing is not None and not sockets:
            raise missing
        opened.pop_all()
    return sockets


def source_of(place: tuple[Any, ...]) -> Source:
    """Return what connections from this address are told apart by: an IPv4 address, or the /64 of an IPv6 address.

    Whoever has one IPv6 address commonly has all of its /64.

    Args:
        place: a socket's address.
    """
    host: str = place[0]
    if ":" not in host:
        return host
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:IPV6_SITE_BYTES]
