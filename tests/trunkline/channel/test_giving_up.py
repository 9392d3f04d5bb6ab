"""A silent peer is given up over real TCP: the connection is reset, which is heard at once where that way works."""

import asyncio
import socket

import pytest

from tests.support.links import Owner, open_recorder
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, Role

BOTH_LOOPS = True


def read_to_the_end(peer):
    while peer.recv(65_536):
        pass


async def test_a_silent_peer_hears_of_it_before_what_it_has_not_taken():
    """Where only its packets are lost, so are its acknowledgements: an ordered end would wait behind what was sent."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        link = Link(Role.CLIENT, Owner(), loop=loop, limits=Limits(ping_timeout_seconds=0.05), keepalive_seconds=0.05)
        transport, _ = await loop.create_connection(asyncio.Protocol, *listening.getsockname())
        link.adopt(transport)
        with listening.accept()[0] as peer:
            open_recorder(link).stream.write(bytes(200_000))
            async with asyncio.timeout(30):
                await link.closed
            with pytest.raises(ConnectionResetError):
                read_to_the_end(peer)
