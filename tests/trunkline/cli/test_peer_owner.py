"""Who holds the other end of a loopback connection."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from trunkline.cli.peer_owner import owner_in_table, owner_of

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LINE = "   0: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 1 1\n"


def test_a_table_as_the_kernel_writes_it(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(HEADER + LINE)
    assert owner_in_table(table, ("127.0.0.1", 8080), ("127.0.0.1", 50000)) == 1000
    assert owner_in_table(table, ("127.0.0.1", 50000), ("127.0.0.1", 8080)) is None


def test_nonsense_and_nothing_have_no_owner(tmp_path: Path) -> None:
    table = tmp_path / "tcp"
    table.write_text(HEADER + "0: x\n")
    assert owner_in_table(table, ("127.0.0.1", 1), ("127.0.0.1", 2)) is None
    assert owner_in_table(tmp_path / "none", ("127.0.0.1", 1), ("127.0.0.1", 2)) is None


def test_a_connection_of_our_own() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as near:
        far, _ = server.accept()
        with far:
            owner = owner_of(near.getsockname(), near.getpeername())
    assert owner == os.geteuid()


def test_a_connection_of_our_own_from_a_socket_of_ipv6() -> None:
    # As Java and gRPC make them, whatever the address.
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_INET6) as near:
        near.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        near.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        far, peer = server.accept()
        with far:
            owner = owner_of(peer, far.getsockname())
    assert owner == os.geteuid()


def test_whoever_has_closed_the_connection_already_is_nobody() -> None:
    # The kernel shows a socket that no process has any more as root's, whoever made it.
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as near:
            ends = near.getsockname(), near.getpeername()
            near.sendall(b"GET / HTTP/1.1\r\n\r\n")
        far, _ = server.accept()
        with far:
            assert owner_of(*ends) is None
