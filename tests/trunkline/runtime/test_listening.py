"""What connections inherit from the socket that listens, and what tells them apart."""

import socket

import pytest

from trunkline.runtime.listening import KEEPALIVE_IDLE_SECONDS, listen_on, source_of


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_what_is_accepted_sends_small_answers_at_once_and_notices_who_is_gone(family: int, host: str) -> None:
    with listen_on(family, (host, 0), backlog=1) as listening:
        assert not listening.getblocking()
        with socket.create_connection(listening.getsockname()[:2]):
            listening.setblocking(True)
            accepted, _ = listening.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == KEEPALIVE_IDLE_SECONDS


def test_sources_are_ipv4_addresses_and_ipv6_sites():
    assert source_of(("192.0.2.1", 1)) == source_of(("192.0.2.1", 2)) != source_of(("192.0.2.2", 1))
    site = source_of(("2001:db8:0:1::1", 1, 0, 0))
    assert source_of(("2001:db8:0:1:ffff::2", 2, 0, 0)) == site
    assert source_of(("2001:db8:0:2::1", 1, 0, 0)) != site
    assert source_of(("fe80::1%lo", 1, 0, 1)) == source_of(("fe80::2", 1, 0, 0))
