"""Dialling a link over real TLS on loopback: carriers, proxies, and every way to fail, on both loops."""

import asyncio
import json
import socket
import struct
from dataclasses import replace
from uuid import UUID

import pytest

from tests.support.http_proxy import http_proxy
from tests.support.identities import IdentityKit
from tests.support.link_server import Echo, link_server
from tests.support.tcp_forwarder import tcp_forwarder
from trunkline.channel import connecting, dialing
from trunkline.channel.addresses import Address, Addresses
from trunkline.channel.dialing import DialPlan, dial_link
from trunkline.channel.errors import ConnectionLost, HandshakeFailed
from trunkline.channel.link import LinkStream
from trunkline.channel.proxy_connect import ProxyAddress, ProxyRefused
from trunkline.channel.session import Role
from trunkline.channel.terms import PLAIN_YAMUX
from trunkline.channel.unsent import UNSENT_BYTES
from trunkline.channel.upgrade import Carrier, LinkRefused
from trunkline.channel.upgrade_protocol import CutBeforeTls

BOTH_LOOPS = True
INSTANCE = UUID("6f1c0a52-3c51-4a35-9d8e-6a1f9e5f3b11")


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    return IdentityKit(tmp_path_factory.mktemp("identities"))


class Owner:
    """Owns dialled links; serves no streams."""

    def __init__(self):
        self.lost = []

    def stream_offered(self, stream):
        return Echo(stream)

    def go_away_received(self, link, code):
        pass

    def link_lost(self, link, error):
        self.lost.append(error)


class Collector:
    """Collects what a stream brings."""

    def __init__(self):
        self.received = bytearray()
        self.ended = asyncio.get_running_loop().create_future()
        self.stream: LinkStream

    def data_received(self, data):
        self.received += data
        self.stream.consumed(len(data))

    def end_received(self):
        self.ended.set_result(None)

    def window_opened(self):
        pass

    def stream_lost(self, error):
        self.ended.set_exception(error)


async def dial(kit, url, *, identity=None, **options):
    plan = DialPlan(url, kit.client_tls(identity), "a.b.c", **options)
    return await dial_link(plan, role=Role.SERVER, owner=Owner())


async def close(link):
    link.close()
    await link.closed


async def check_echo(link):
    """A round trip on a stream that the dialling end opens."""
    collector = Collector()
    collector.stream = link.open(collector)
    collector.stream.write(b"are you there", end=True)
    await collector.ended
    assert collector.received == b"are you there"


@pytest.mark.parametrize("carrier", ["yamux", "websocket", "auto"])
async def test_a_link_comes_up_and_carries_streams_both_ways(kit, carrier):
    node = kit.issue_node()
    async with link_server(kit.server_tls().context) as server:
        link = await dial(kit, server.url, identity=node, carrier=carrier, instance=INSTANCE, sequence=4)
        await check_echo(link)
        await server.connected.wait()
        await check_echo(server.links[0])
        for end in (link, server.links[0]):
            connection = end.get_extra_info("socket")
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
        await close(link)
    (request,) = server.requests
    assert (request.token, request.instance, request.sequence) == ("a.b.c", INSTANCE, 4)
    assert request.authority == f"localhost:{server.port}"
    assert request.carrier is (Carrier.WEBSOCKET if carrier == "websocket" else Carrier.YAMUX)
    assert server.peer_certificates[0] is not None


async def test_plain_yamux_is_agreed_with_a_server_that_says_nothing_of_terms(kit):
    async with link_server(kit.server_tls().context, terms=PLAIN_YAMUX) as server:
        link = await dial(kit, server.url)
        await check_echo(link)
        await close(link)


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
async def test_through_a_proxy(kit, secure):
    context = kit.server_tls().context if secure else None
    async with (
        link_server(kit.server_tls().context) as server,
        http_proxy(context, authorization="Basic dTpw") as proxy,
    ):
        address = ProxyAddress("https" if secure else "http", "localhost", proxy.port, "Basic dTpw")
        link = await dial(kit, server.url, proxy=address, proxy_ssl_context=kit.client_tls())
        await check_echo(link)
        await close(link)
        assert proxy.requests[0][0] == f"CONNECT localhost:{server.port} HTTP/1.1"
        with pytest.raises(ProxyRefused, match="user:password@"):
            await dial(kit, server.url, proxy=replace(address, authorization=None), proxy_ssl_context=kit.client_tls())


async def test_a_proxy_that_is_not_one(kit):
    async with link_server(kit.server_tls().context) as server, http_proxy(answer=b"220 smtp\r\n\r\n") as proxy:
        with pytest.raises(HandshakeFailed, match="not HTTP"):
            await dial(kit, server.url, proxy=ProxyAddress("http", "localhost", proxy.port))


async def test_a_proxy_that_never_answers_is_named(kit):
    async with link_server(kit.server_tls().context) as server, tcp_forwarder("127.0.0.1", server.port) as forwarder:
        forwarder.stall()
        proxy = ProxyAddress("http", "localhost", forwarder.port)
        with pytest.raises(ConnectionLost, match=f"through the proxy {proxy} within 1 s"):
            await dial(kit, server.url, proxy=proxy, deadline_seconds=1.0)


async def test_nobody_listens(kit):
    with socket.socket() as unheard:  # bound, so that nobody else is given it, and not listening
        unheard.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionLost, match=r"cannot reach localhost:\d+: connection refused \("):
            await dial(kit, f"https://localhost:{unheard.getsockname()[1]}")


@pytest.mark.parametrize("url", ["http://localhost:1", "https://", "https://localhost/path", "https://h:99999", "x"])
async def test_a_url_that_names_no_relay(kit, url):
    with pytest.raises(HandshakeFailed, match="https://host"):
        await dial(kit, url)


async def test_a_server_of_another_authority_is_not_trusted(kit, tmp_path):
    stranger = IdentityKit(tmp_path)
    async with link_server(stranger.server_tls().context) as server:
        with pytest.raises(HandshakeFailed, match="certificate of localhost"):
            await dial(kit, server.url)
    assert server.requests == []


async def test_a_server_of_another_name_is_not_trusted(kit):
    async with link_server(kit.server_tls(kit.issue_relay("rl-two", "other.test")).context) as server:
        with pytest.raises(HandshakeFailed, match="certificate of localhost"):
            await dial(kit, server.url)


async def test_a_server_that_wants_a_certificate_refuses_a_client_without_one(kit):
    async with link_server(kit.server_tls(client_certificates="required").context) as server:
        with pytest.raises((HandshakeFailed, ConnectionLost)):
            await dial(kit, server.url)


def a_refusal(status, **fields):
    body = json.dumps({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "draining, try another relay"}).encode()
    lines = [b"HTTP/1.1 %d No" % status, b"Content-Length: %d" % len(body)]
    lines += [b"%s: %s" % (name.replace("_", "-").encode(), value) for name, value in fields.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize("carrier", ["yamux", "auto"])
async def test_the_relays_refusal_keeps_its_words(kit, carrier):
    answer = a_refusal(503, Retry_After=b"3", Proxy_Status=b"trunkline-relay; error=x", Trunkline_Request_Id=b"rq-5")
    async with link_server(kit.server_tls().context, refuse=lambda request: answer) as server:
        with pytest.raises(LinkRefused, match="draining, try another relay") as caught:
            await dial(kit, server.url, carrier=carrier)
    refusal = caught.value
    assert (refusal.status, refusal.error_code, refusal.retry_after_seconds) == (503, "TEMPORARILY_UNAVAILABLE", 3)
    assert refusal.request_id == "rq-5"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer", [b"", a_refusal(403), b"HTTP/1.1 502 No\r\n\r\n<html>"], ids=["hung up", "forbidden", "no length"]
)
async def test_where_something_between_refuses_the_upgrade_a_websocket_is_tried(kit, answer):
    def refuse(request):
        return answer if request.carrier is Carrier.YAMUX else None

    async with link_server(kit.server_tls().context, refuse=refuse) as server:
        link = await dial(kit, server.url, carrier="auto")
        await check_echo(link)
        await close(link)
        with pytest.raises((LinkRefused, ConnectionLost)):
            await dial(kit, server.url, carrier="yamux")
    assert [request.carrier for request in server.requests] == [Carrier.YAMUX, Carrier.WEBSOCKET, Carrier.YAMUX]


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: yamux\r\nTrunkline-Version: 9\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"a" * 50_000,
    ],
    ids=["ssh", "other upgrade", "other version", "endless"],
)
async def test_an_answer_that_is_none(kit, answer):
    async with link_server(kit.server_tls().context, refuse=lambda request: answer) as server:
        with pytest.raises(HandshakeFailed):
            await dial(kit, server.url)


async def test_a_relay_that_never_answers(kit):
    async with (
        link_server(kit.server_tls().context) as server,
        tcp_forwarder("127.0.0.1", server.port) as forwarder,
    ):
        forwarder.stall()
        # Long enough to be connected: asyncio forgets a socket whose connecting is cancelled as it succeeds.
        with pytest.raises(ConnectionLost, match="within 1 s"):
            await dial(kit, f"https://localhost:{forwarder.port}", deadline_seconds=1.0)
    assert server.requests == []


async def test_time_that_passes_before_tls_is_up_is_not_taken_from_yamux(kit):
    """A resolver that takes half of the deadline, because its first server is dead, must not leave none for either."""
    async with (
        link_server(kit.server_tls().context) as server,
        tcp_forwarder("127.0.0.1", server.port) as forwarder,
    ):
        forwarder.stall()
        with pytest.raises(ConnectionLost, match="within 1 s"):
            await dial(kit, f"https://localhost:{forwarder.port}", carrier="auto", deadline_seconds=1.0)
        assert forwarder.accepted == 1
    assert server.requests == []


async def test_where_the_upgrade_is_never_answered_a_websocket_is_tried_in_time(kit, monkeypatch):
    async def never_to_yamux(request):
        if request.carrier is Carrier.YAMUX:
            await asyncio.get_running_loop().create_future()

    monkeypatch.setattr(dialing, "YAMUX_SHARE", 0.01)
    async with link_server(kit.server_tls().context, before_answer=never_to_yamux) as server:
        link = await dial(kit, server.url, carrier="auto", deadline_seconds=30.0)
        await check_echo(link)
        await close(link)
    assert [request.carrier for request in server.requests] == [Carrier.WEBSOCKET]


async def test_a_dial_that_is_cancelled_leaves_nothing(kit):
    async with (
        link_server(kit.server_tls().context) as server,
        tcp_forwarder("127.0.0.1", server.port) as forwarder,
    ):
        forwarder.stall()
        dialling = asyncio.ensure_future(dial(kit, f"https://localhost:{forwarder.port}"))
        await forwarder.joined.wait()
        dialling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialling


async def test_a_link_whose_connection_is_cut(kit):
    async with (
        link_server(kit.server_tls().context) as server,
        tcp_forwarder("127.0.0.1", server.port) as forwarder,
    ):
        link = await dial(kit, f"https://localhost:{forwarder.port}")
        await check_echo(link)
        forwarder.cut()
        await link.closed
        assert link.lost


@pytest.mark.parametrize("carrier", ["yamux", "auto"])
async def test_a_port_that_cuts_is_told_from_one_that_is_closed(kit, carrier):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://localhost:{listening.getsockname()[1]}"
        dialling = asyncio.create_task(dial(kit, url, carrier=carrier))
        accepted, _ = await asyncio.to_thread(listening.accept)
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()
        with pytest.raises(CutBeforeTls):
            await dialling
    with pytest.raises(ConnectionLost) as raised:
        await dial(kit, url, carrier=carrier)
    assert not isinstance(raised.value, CutBeforeTls)


def leading(*ports):
    """Addresses whose one name leads to these ports of loopback."""

    async def look_up(host, port):
        return [Address(socket.AF_INET, ("127.0.0.1", one)) for one in ports]

    return Addresses(look_up)


@pytest.mark.parametrize("carrier", ["yamux", "auto"])
async def test_an_address_that_takes_connections_and_never_speaks_tls_is_passed_over_and_remembered(
    kit, monkeypatch, carrier
):
    """A backend of the name has hung: its kernel goes on taking connections."""
    async with link_server(kit.server_tls().context) as server:
        with socket.create_server(("127.0.0.1", 0)) as hung:
            addresses = leading(hung.getsockname()[1], server.port)
            for patience_seconds in (0.05, 60.0):  # the second dial has no need of it
                monkeypatch.setattr(connecting, "SECURE_PATIENCE_SECONDS", patience_seconds)
                link = await dial(kit, "https://localhost", carrier=carrier, addresses=addresses)
                await check_echo(link)
                await close(link)
            hung.setblocking(False)
            connection, _ = hung.accept()
            connection.close()
            with pytest.raises(BlockingIOError):
                hung.accept()
    assert len(server.requests) == 2


async def test_an_address_that_is_not_to_be_trusted_is_passed_over(kit, tmp_path):
    stranger = IdentityKit(tmp_path)
    async with (
        link_server(stranger.server_tls().context) as another,
        link_server(kit.server_tls().context) as server,
    ):
        addresses = leading(another.port, server.port)
        await close(await dial(kit, "https://localhost", addresses=addresses))
    assert another.requests == []


async def test_of_addresses_that_come_up_together_one_is_asked_for_the_link(kit, monkeypatch):
    monkeypatch.setattr(connecting, "SECURE_PATIENCE_SECONDS", 0.0)
    async with link_server(kit.server_tls().context) as first, link_server(kit.server_tls().context) as second:
        for _ in range(10):
            addresses = leading(first.port, second.port)
            link = await dial(kit, "https://localhost", addresses=addresses)
            await check_echo(link)
            await close(link)
    assert len(first.requests) + len(second.requests) == 10


async def test_an_address_of_a_proxy_that_never_answers_is_passed_over(kit, monkeypatch):
    monkeypatch.setattr(connecting, "SECURE_PATIENCE_SECONDS", 0.05)
    async with link_server(kit.server_tls().context) as server, http_proxy() as proxy:
        with socket.create_server(("127.0.0.1", 0)) as hung:
            addresses = leading(hung.getsockname()[1], proxy.port)
            link = await dial(kit, server.url, proxy=ProxyAddress("http", "proxy.test", 3128), addresses=addresses)
            await check_echo(link)
            await close(link)


async def test_an_address_at_which_the_upgrade_is_never_answered_is_not_the_first_one_again(kit):
    async def never(request):
        await asyncio.get_running_loop().create_future()

    async with (
        link_server(kit.server_tls().context, before_answer=never) as silent,
        link_server(kit.server_tls().context) as server,
    ):
        addresses = leading(silent.port, server.port)
        with pytest.raises(ConnectionLost):
            await dial(kit, "https://localhost", addresses=addresses, deadline_seconds=2.0)
        await close(await dial(kit, "https://localhost", addresses=addresses))
