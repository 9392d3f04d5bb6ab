import asyncio
import errno
import os
import socket

import pytest

from relay.port.listening import open_listening
from trunkline.runtime.listening import KEEPALIVE_IDLE_SECONDS


@pytest.mark.parametrize(
    ("address", "families"),
    [
        ("127.0.0.1", {socket.AF_INET}),
        ("::1", {socket.AF_INET6}),
        ("::", {socket.AF_INET6}),
        ("", {socket.AF_INET, socket.AF_INET6}),
    ],
)
async def test_a_socket_for_each_family_that_the_address_stands_for(address: str, families: set[int]):
    listening = await open_listening(address, 0, backlog=16)
    assert {opened.family for opened in listening} == families
    assert all(opened.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) for opened in listening)
    for opened in listening:
        opened.close()


async def test_what_is_accepted_has_the_options_of_a_connection():
    (listening,) = await open_listening("127.0.0.1", 0, backlog=16)
    with listening, socket.create_connection(listening.getsockname()):
        accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_SECONDS


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open():
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
        await open_listening("127.0.0.1", taken.getsockname()[1], backlog=16)


async def test_an_address_that_the_machine_has_not_is_an_error():
    with pytest.raises(OSError, match=os.strerror(errno.EADDRNOTAVAIL)):
        await open_listening("192.0.2.1", 0, backlog=16)
