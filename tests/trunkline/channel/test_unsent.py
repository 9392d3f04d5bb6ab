import asyncio
import socket

import pytest

from trunkline.channel.unsent import UNSENT_BYTES, keep_little_unsent


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_takes_little_that_it_cannot_send(family):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        keep_little_unsent(asyncio.BaseTransport({"socket": connection}))
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


def test_what_is_no_tcp_connection_is_left_as_it_is():
    keep_little_unsent(asyncio.BaseTransport())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        keep_little_unsent(asyncio.BaseTransport({"socket": connection}))
