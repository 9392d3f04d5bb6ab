"""Which user holds the other end of a loopback connection, so that a local port serves its owner alone.

Any user of the machine, and any container that shares its network, can connect to a loopback port. The kernel lists
TCP sockets with their owners in ``/proc/net/tcp``; where that cannot be read, nobody is let in. A socket that no
process has open any more, because it was closed as soon as it had sent something, is listed as root's, and without an
inode: whose it was is not known, so it is nobody's. A socket of IPv6 that is connected to an IPv4 address, as those of
Java and gRPC are, is in the table of IPv6, with that address mapped (RFC 4291 section 2.5.5.2).
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import sys
from pathlib import Path

_IPV4_TABLE = Path("/proc/net/tcp")
_IPV6_TABLE = Path("/proc/net/tcp6")
_MAPPED = "::ffff:"


async def is_own_peer(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end of an IPv4 connection belongs to the user that runs this process, or to root."""
    connection = transport.get_extra_info("socket")
    local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
    if connection is None or local is None or peer is None or connection.family != socket.AF_INET:
        return False
    return await asyncio.to_thread(owner_of, peer, local) in (os.geteuid(), 0)


def owner_of(local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """The user id of the socket with these two IPv4 addresses, of whichever family it is; None if nobody has it."""
    owner = owner_in_table(_IPV4_TABLE, local, remote)
    if owner is not None:
        return owner
    return owner_in_table(_IPV6_TABLE, (_MAPPED + local[0], local[1]), (_MAPPED + remote[0], remote[1]))


def owner_in_table(table: Path, local: tuple[str, int], remote: tuple[str, int]) -> int | None:
    """The user id of the socket with these two addresses in a table like ``/proc/net/tcp``; None if nobody has it."""
    wanted = [_hexadecimal(local), _hexadecimal(remote)]
    try:
        with table.open(encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                columns = line.split()
                if columns[1:3] == wanted:
                    return int(columns[7]) if int(columns[9]) else None
    except (OSError, ValueError, IndexError):
        return None
    return None


def _hexadecimal(address: tuple[str, int]) -> str:
    """An address as the kernel writes it: words of 32 bits in the byte order of the machine."""
    packed = ipaddress.ip_address(address[0]).packed
    words = [int.from_bytes(packed[at : at + 4], sys.byteorder) for at in range(0, len(packed), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
