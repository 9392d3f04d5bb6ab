import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from tests.support.identities import IdentityKit
from trunkline.channel.unsent import UNSENT_BYTES, keep_little_unsent, unsent_bytes, untaken_bytes


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_takes_little_that_it_cannot_send(family):
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        keep_little_unsent(asyncio.BaseTransport({"socket": connection}))
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES


def test_what_is_no_tcp_connection_is_left_as_it_is():
    keep_little_unsent(asyncio.BaseTransport())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        keep_little_unsent(asyncio.BaseTransport({"socket": connection}))


class Encrypting(asyncio.Transport):
    """Leaves out of its buffer's size what it has encrypted."""

    def get_write_buffer_size(self) -> int:
        return 1

    def get_local_write_buffer_size(self) -> int:
        return 11


def test_what_is_encrypted_already_is_unsent_too():
    assert unsent_bytes(Encrypting()) == untaken_bytes(Encrypting()) == 11


def test_what_the_peers_system_has_not_acknowledged_is_not_taken():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as connection:
        connection.connect(server.getsockname())
        peer, _ = server.accept()
        with peer:
            transport = Encrypting({"socket": connection})
            assert untaken_bytes(transport) == 11
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while connection.send(bytes(65_536)):
                    pass
            assert untaken_bytes(transport) > 65_536
            connection.close()
            assert untaken_bytes(transport) == 11, "nobody knows any more"


def test_what_is_no_tcp_connection_waits_in_the_process_only():
    here, there = socket.socketpair()
    with here, there:
        here.send(b"x")
        assert untaken_bytes(Encrypting({"socket": here})) == 11


async def test_of_a_tls_connection_that_was_closed_twice_nothing_is_known(tmp_path: Path):
    kit = IdentityKit(tmp_path)
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer)

    async with await asyncio.start_server(accept, "127.0.0.1", 0, ssl=kit.server_tls().context) as server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("localhost", port, ssl=kit.client_tls())
        theirs = await accepted
        transport = theirs.transport
        transport.close()
        transport.close()
        assert unsent_bytes(transport) == untaken_bytes(transport) == 0
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
