"""Whom a connection's other side is taken for: only whoever proved it in a handshake that was verified."""

import asyncio
import ssl

import pytest

from certs.peers import peer_certificate
from tests.support.identities import IdentityKit


class Encrypted(asyncio.BaseTransport):
    """A transport over this connection; None for one without TLS."""

    def __init__(self, connection: ssl.SSLObject | None) -> None:
        super().__init__({"ssl_object": connection})


def shaken(client: ssl.SSLContext, server: ssl.SSLContext) -> ssl.SSLObject:
    """The server's side of a handshake in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
    ]
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return sides[0]


def test_a_peer_is_who_it_has_proved_to_be(tmp_path) -> None:
    kit = IdentityKit(tmp_path)
    node = kit.issue_node()
    connection = shaken(kit.client_tls(node), kit.server_tls().context)
    peer = peer_certificate(Encrypted(connection))
    assert peer is not None
    assert (peer.spiffe_id, peer.serial, peer.thumbprint) == (node.spiffe_id, node.serial, node.thumbprint)
    connection.context.verify_mode = ssl.CERT_NONE
    assert peer_certificate(Encrypted(connection)) is None, "nobody has verified what it presented"


@pytest.mark.parametrize("transport", [None, Encrypted(None)])
def test_without_tls_nobody_is_known(transport: Encrypted | None) -> None:
    assert peer_certificate(transport) is None


def test_who_presents_nothing_is_not_known(tmp_path) -> None:
    kit = IdentityKit(tmp_path)
    assert peer_certificate(Encrypted(shaken(kit.client_tls(), kit.server_tls().context))) is None
