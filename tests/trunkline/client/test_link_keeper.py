"""The way to a relay that a sender dials, over real TLS on loopback."""

import pytest

from tests.support.identities import IdentityKit
from tests.support.link_server import link_server
from trunkline.channel.session import Role
from trunkline.channel.upgrade import Carrier
from trunkline.client.link_keeper import tls_dial


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Owner:
    """Owns dialled links; serves no streams."""

    def stream_offered(self, stream):
        return None

    def go_away_received(self, link, code):
        pass

    def link_lost(self, link, error):
        pass


async def test_where_something_between_refuses_the_upgrade_a_sender_comes_in_a_websocket(kit):
    """A balancer that ends TLS in front of a relay knows WebSockets, and no other upgrade."""

    def refuse(request):
        return b"HTTP/1.1 426 No\r\nContent-Length: 0\r\n\r\n" if request.carrier is Carrier.YAMUX else None

    async with link_server(kit.server_tls().context, refuse=refuse, role=Role.SERVER) as server:
        link = await tls_dial(server.url, kit.client_tls())(Owner(), "a.b.c")
        assert await link.ping() > 0
        link.close()
        await link.closed
    assert [request.carrier for request in server.requests] == [Carrier.YAMUX, Carrier.WEBSOCKET]
