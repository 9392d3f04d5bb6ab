"""Links to real TLS listeners that grant upgrades, over loopback."""

import asyncio
import json
import random
import resource
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
from prometheus_client import CollectorRegistry

from certs.tls import client_context
from certs.trust import TrustVerdict
from node_agent.exchanges.control import NoticeExchange
from node_agent.exchanges.deadlines import Deadlines
from node_agent.identity.credentials import Credentials
from node_agent.identity.node_identity import IdentityStore, NodeIdentity
from node_agent.links import relay_links, relay_supervisor
from node_agent.links.dialer import Dialer, DialOptions
from node_agent.links.relay_links import RelayLinks
from node_agent.metrics import AgentMetrics
from node_agent.settings import LinkSettings
from tests.support.identities import NODE, NODE_ID, WORKSPACE, WORKSPACE_ID
from tests.support.link_server import link_server
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import HeadBuffer, parse_request_head
from trunkline.channel.link import LinkStream
from trunkline.channel.stream_transport import open_stream_pair
from trunkline.runtime.clock import SystemClock
from trunkline.runtime.lifecycle import Condition
from trunkline.runtime.secret import Secret

REFUSAL = (
    b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n"
    b"Proxy-Status: trunkline-relay; error=http_request_denied\r\nTrunkline-Request-Id: rq-1\r\n\r\n%b"
)


def refusal(status, error_code):
    body = json.dumps({"error_code": error_code, "message": "no"}).encode()
    return REFUSAL % (status, len(body), body)


class Node:
    """The links under test, and what they were told to do with streams."""

    def __init__(self, kit, state, log):
        self.kit, self.log = kit, log
        self.asked_for_token = 0
        self.trust = []
        self.revoked = set()
        self.ready = Condition("relay_link", lambda: None)
        loop = asyncio.get_running_loop()
        self._lingering: Deadlines[LinkStream] = Deadlines(5.0, LinkStream.reset, loop)
        self.credentials = Credentials(self.identity(), IdentityStore(state))
        dialer = Dialer(
            self.credentials,
            lambda identity: client_context(kit.roots, identity=identity),
            lambda url: None,
            client_context,
            DialOptions(carrier="yamux", dial_seconds=30),
            lambda serial: TrustVerdict(False, "certificate", serial) if serial in self.revoked else None,
        )
        self.instance = dialer.instance
        self.links = RelayLinks(
            dialer=dialer,
            offer=self.offer,
            take_trust=self.trust.append,
            ask_for_token=self.ask_for_token,
            urgent=lambda: False,
            settings=LinkSettings(clone_backoff_seconds=60.0, drain_seconds=5.0, backoff_cap_seconds=0.1),
            ready=self.ready,
            metrics=AgentMetrics(CollectorRegistry()),
            clock=SystemClock(),
            rng=random.Random(1),
            log=log,
        )
        self.credentials.subscribe(self.links.identity_changed)

    def identity(self, **changes):
        identity = self.kit.issue_node()
        fields = {
            "identity": identity,
            "node_id": NODE_ID,
            "node": NODE,
            "workspace_id": WORKSPACE_ID,
            "workspace": WORKSPACE,
            "name_suffix": "trunk.internal",
            "listen_token": Secret(self.kit.listen_token(identity)),
            "sealing_key": Secret("x"),
        }
        return NodeIdentity(**(fields | changes))

    def ask_for_token(self):
        self.asked_for_token += 1

    def offer(self, stream, notices):
        return _Head(stream, notices, self._lingering)

    def close(self):
        self._lingering.close()


class _Head:
    """Serves notices, and echoes every other stream until its end."""

    def __init__(self, stream, notices, lingering):
        self._stream, self._notices, self._lingering = stream, notices, lingering
        self._buffer = HeadBuffer()

    def data_received(self, data):
        raw = self._buffer.receive_data(data)
        if raw is None:
            return
        head = parse_request_head(raw)
        self._stream.consumed(len(data) - len(self._buffer.leftover))
        if head.host == b"link.internal":
            self._stream.handler = exchange = NoticeExchange(self._stream, head, self._notices, self._lingering)
            exchange.data_received(self._buffer.leftover)
        else:
            self._stream.write(b"HTTP/1.1 200 OK\r\n\r\n")

    def end_received(self):
        if self._stream.writable:
            self._stream.end()

    def window_opened(self):
        pass

    def stream_lost(self, error):
        pass


@pytest.fixture
async def node(kit, tmp_path, log):
    node = Node(kit, tmp_path, log)
    yield node
    await node.links.close()
    node.close()


@asynccontextmanager
async def relays(kit, count=1, **behaviour):
    async with AsyncExitStack() as stack:
        tls = kit.server_tls(kit.issue_relay())
        yield [await stack.enter_async_context(link_server(tls.context, **behaviour)) for _ in range(count)]


async def notice(link, **members):
    reader, writer = open_stream_pair(link.open())
    body = json.dumps(members).encode()
    head = b"POST /v1/notice HTTP/1.1\r\nHost: link.internal\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    writer.write(head % len(body) + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 204")


async def test_a_link_is_attached_with_the_nodes_credentials(node, kit, until):
    async with relays(kit, 2) as servers:
        node.links.configure(tuple(server.url for server in servers))
        await until(lambda: all(server.links for server in servers))
        for server in servers:
            request = server.requests[0]
            assert request.instance == node.instance
            assert request.token == node.credentials.current.listen_token.reveal()
            assert server.peer_certificates[0] is not None
        assert sorted(server.requests[0].sequence for server in servers) == [1, 2]
        await until(lambda: node.ready.reason is None)
        await node.links.close()


async def test_who_is_linked_is_known(node, kit, until):
    async with relays(kit) as [server]:
        assert node.links.linked() == []
        node.links.configure((server.url,))
        await until(lambda: node.links.linked() == [server.url])
        await node.links.close()


async def test_a_lost_link_is_back_at_once(node, kit, until, monkeypatch):
    delays = []

    def longest(low, high):
        delays.append(high)
        return high

    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        monkeypatch.setattr(node.links._rng, "uniform", longest)
        server.links[0].abort()
        await until(lambda: len(server.links) == 2)
        assert delays == [0.0]
        assert server.requests[1].sequence > server.requests[0].sequence
        await node.links.close()


async def test_an_agent_without_descriptors_dials_again_once_it_has_some(node, kit, until):
    failed = node.links._metrics.link_attempts.labels("failed")._value
    async with relays(kit) as (server,):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, most[1]))
        try:
            node.links.configure((server.url,))
            await until(lambda: failed.get() or node.links._supervisors[server.url][1].done())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, most)
        await until(lambda: node.links.linked() or node.links._supervisors[server.url][1].done())
        assert node.links.linked() == [server.url]
        await node.links.close()


async def test_a_relay_whose_address_is_no_host_name_is_dialled_seldom(node, kit, until):
    failed = node.links._metrics.link_attempts.labels("failed")._value
    node.links.configure(("https://" + "a" * 64 + ".test",))
    await until(lambda: failed.get() or all(task.done() for _, task in node.links._supervisors.values()))
    assert not any(task.done() for _, task in node.links._supervisors.values())


async def test_a_relay_that_hangs_up_each_time_is_not_dialled_in_a_circle(node, kit):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        loop = asyncio.get_running_loop()
        began = loop.time()
        for _ in range(10):
            await server.connected.wait()
            server.connected.clear()
            server.links[-1].abort()
        # The first is dialled again at once, the others after 50 ms on average.
        assert loop.time() - began > 0.15
        await node.links.close()


async def test_a_draining_relay_gets_a_new_link_before_the_old_one_goes(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        old = server.links[0]
        reader, writer = open_stream_pair(old.open())
        writer.write(b"GET / HTTP/1.1\r\nHost: vm-1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await notice(old, type="draining")
        await until(lambda: len(server.links) == 2)
        assert not old.lost
        await until(lambda: old.session.go_away_received)
        assert old.streams == 1
        writer.write_eof()
        await old.closed
        writer.close()
        await node.links.close()


async def test_go_away_alone_says_the_same(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        server.links[0].go_away()
        await until(lambda: len(server.links) == 2)
        await node.links.close()


async def test_a_relay_that_drains_and_goes_is_dialled_as_soon_as_it_has_gone(node, kit, until):
    away = refusal(503, "TEMPORARILY_UNAVAILABLE").replace(b"\r\n", b"\r\nRetry-After: 3600\r\n", 1)
    draining = False
    async with relays(kit, refuse=lambda request: away if draining else None) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        draining = True
        await notice(server.links[0], type="draining")
        await until(lambda: len(server.requests) == 2)
        draining = False
        server.links[0].close()
        await until(lambda: len(server.links) == 2)
        await until(lambda: node.ready.reason is None)
        await node.links.close()


async def test_a_process_that_its_copy_has_superseded_comes_as_another_so_that_the_relay_tells_of_two(
    node, kit, logged, until, monkeypatch
):
    """A machine that was resumed from a snapshot of this one has its instance, and so no alarm was raised."""
    monkeypatch.setattr(relay_supervisor, "SUPERSEDED_PAUSE_SECONDS", 0.01)

    def refuse(request):
        return None if request.instance == node.instance else refusal(409, "RESOURCE_CONFLICT")

    async with relays(kit) as (other,), relays(kit, refuse=refuse) as (server,):
        node.links.configure((server.url, other.url))
        await until(lambda: len(server.links) == len(other.links) == 1)
        await notice(server.links[0], type="superseded")
        await server.links[0].closed
        await until(lambda: any(entry["event"] == "link.refused_as_clone" for entry in logged.entries))
        assert any(entry["event"] == "link.superseded" for entry in logged.entries)
        assert len(server.requests) == 2
        other.links[0].go_away()
        await until(lambda: len(other.links) == 2)
        assert {request.instance for request in other.requests} == {node.instance}, "that relay has told of nobody"
        await node.links.close()


async def test_a_relay_that_two_addresses_lead_to_is_dialled_by_one_of_them(node, kit, logged, until, monkeypatch):
    monkeypatch.setattr(relay_supervisor, "SUPERSEDED_PAUSE_SECONDS", 0.01)
    async with relays(kit, count=2) as servers:
        node.links.configure(tuple(server.url for server in servers))
        await until(lambda: all(server.links for server in servers))
        await notice(servers[0].links[0], type="superseded")
        await servers[0].links[0].closed
        await until(lambda: any(entry["event"] == "link.superseded" for entry in logged.entries))
        await asyncio.sleep(0.1)
        assert [len(server.requests) for server in servers] == [1, 1]
        await node.links.close()


async def test_a_process_whose_copy_has_gone_is_back(node, kit, until, monkeypatch):
    monkeypatch.setattr(relay_supervisor, "SUPERSEDED_PAUSE_SECONDS", 0.01)
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        await notice(server.links[0], type="superseded")
        await until(lambda: len(server.links) == 2)
        await until(lambda: node.ready.reason is None)
        await node.links.close()


async def test_a_clone_stays_away_and_raises_the_alarm(node, kit, logged, until):
    async with relays(kit, refuse=lambda request: refusal(409, "RESOURCE_CONFLICT")) as (server,):
        node.links.configure((server.url,))
        await until(lambda: any(entry["event"] == "link.refused_as_clone" for entry in logged.entries))
        await asyncio.sleep(0.1)
        assert len(server.requests) == 1
        await node.links.close()


async def test_a_refused_token_is_renewed(node, kit, until):
    async with relays(kit, refuse=lambda request: refusal(401, "UNAUTHENTICATED")) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.asked_for_token == 1)
        await node.links.close()


async def test_the_list_of_relays_is_followed(node, kit, until):
    async with relays(kit, 2) as (first, second):
        node.links.configure((first.url,))
        await until(lambda: len(first.links) == 1)
        node.credentials.adopt(node.identity(relays=(second.url,), identity=node.credentials.current.identity))
        await until(lambda: len(second.links) == 1)
        await first.links[0].closed
        await asyncio.sleep(0.05)
        assert len(first.requests) == 1
        await node.links.close()


async def test_a_new_relay_is_dialled_after_a_while_and_a_deleted_one_let_go_in_order(node, kit, until, monkeypatch):
    monkeypatch.setattr(relay_links, "ARRIVAL_SECONDS", 0.3)
    delays = []

    def longest(low, high):
        delays.append((low, high))
        return high

    monkeypatch.setattr(node.links._rng, "uniform", longest)
    async with relays(kit, 2) as (first, second):
        node.links.relays_changed((first.url,))
        await until(lambda: node.ready.reason is None)
        reader, writer = open_stream_pair(first.links[0].open())
        writer.write(b"GET / HTTP/1.1\r\nHost: vm-1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        loop = asyncio.get_running_loop()
        told_at = loop.time()
        node.links.relays_changed((first.url, second.url))
        await until(lambda: len(second.links) == 1)
        assert loop.time() - told_at >= 0.3
        assert delays == [(0.0, 0.0), (0.0, 0.3)]
        node.links.relays_changed((second.url,))
        await until(lambda: first.links[0].session.go_away_received)
        assert first.links[0].streams == 1
        writer.write_eof()
        await first.links[0].closed
        assert not second.links[0].lost
        assert len(first.requests) == 1
        writer.close()
        await node.links.close()


async def test_without_any_link_a_new_relay_is_dialled_at_once(node, kit, until):
    async with relays(kit) as (server,):
        node.links.relays_changed(("https://127.0.0.1:1",))
        node.links.relays_changed((server.url,))
        await until(lambda: len(server.links) == 1)
        await node.links.close()


class TokenDoor:
    """Takes `PUT /v1/token` as a relay does."""

    def __init__(self, stream, taken, status):
        self._stream, self._taken, self._status = stream, taken, status
        self._received = b""

    def data_received(self, data):
        self._stream.consumed(len(data))
        self._received += data
        head, _, body = self._received.partition(b"\r\n\r\n")
        if body:
            self._taken.append((head.split(b"\r\n")[0], body))
            self._stream.write(b"HTTP/1.1 %d X\r\nConnection: close\r\n\r\n" % self._status, end=True)

    def end_received(self):
        pass

    def window_opened(self):
        pass

    def stream_lost(self, error):
        pass


async def test_a_new_token_is_handed_over_on_the_link(node, kit, until):
    taken = []
    async with relays(kit) as (server,):
        server.stream_offered = lambda stream: TokenDoor(stream, taken, 204)
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        await until(lambda: node.ready.reason is None)
        renewed = node.identity(relays=(server.url,), identity=node.credentials.current.identity)
        node.credentials.adopt(renewed)
        await until(lambda: bool(taken))
        assert taken == [(b"PUT /v1/token HTTP/1.1", renewed.listen_token.reveal().encode())]
        await asyncio.sleep(0.05)
        assert len(server.links) == 1
        await node.links.close()


async def test_a_link_that_does_not_take_the_new_token_is_replaced(node, kit, until):
    taken = []
    async with relays(kit) as (server,):
        server.stream_offered = lambda stream: TokenDoor(stream, taken, 401)
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        node.credentials.adopt(node.identity(relays=(server.url,), identity=node.credentials.current.identity))
        await until(lambda: len(server.links) == 2)
        await node.links.close()


async def test_a_new_leaf_means_a_new_link_before_the_old_one_goes(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        node.credentials.adopt(node.identity(relays=(server.url,)))
        await until(lambda: len(server.links) == 2)
        assert server.peer_certificates[0] != server.peer_certificates[1]
        assert server.requests[1].token == node.credentials.current.listen_token.reveal()
        await server.links[0].closed
        assert not server.links[1].lost
        await node.links.close()


async def test_trust_documents_are_passed_on(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        await notice(server.links[0], type="trust_document", trust_document="a.b.c")
        await notice(server.links[0], type="of_a_later_release")
        assert node.trust == ["a.b.c"]
        assert not server.links[0].lost
        await node.links.close()


async def test_a_relay_whose_certificate_was_revoked_is_given_nothing(node, kit, logged, until):
    """It has the key, and a certificate that verifies: only the trust document tells."""
    identity = kit.issue_relay()
    node.revoked.add(identity.chain.serial)
    async with link_server(kit.server_tls(identity).context) as server:
        node.links.configure((server.url,))
        await until(lambda: any("is revoked" in str(entry.get("reason")) for entry in logged.entries))
        assert (server.links, server.requests) == ([], [])
        node.revoked.clear()
        await until(lambda: len(server.links) == 1)
        await node.links.close()


async def test_a_link_to_a_relay_that_is_revoked_is_cut_with_what_is_open_on_it(node, kit, until):
    """Also where that very link brings the document."""
    identity = kit.issue_relay()

    def take(document):
        node.revoked.add(identity.chain.serial)
        node.trust.extend(node.links.cut_ended())

    node.links._take_trust = take
    async with relays(kit) as (good,), link_server(kit.server_tls(identity).context) as bad:
        node.links.configure((good.url, bad.url))
        await until(lambda: len(good.links) == len(bad.links) == 1)
        reader, writer = open_stream_pair(bad.links[0].open())
        writer.write(b"GET / HTTP/1.1\r\nHost: vm-1\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        with suppress(AssertionError, ChannelError, ConnectionError):
            await notice(bad.links[0], type="trust_document", trust_document="a.b.c")
        await bad.links[0].closed
        assert [verdict.id for verdict in node.trust] == [identity.chain.serial]
        assert not good.links[0].lost
        assert len(good.links) == len(bad.links) == 1
        writer.close()
        await node.links.close()


async def test_drain_lets_what_is_open_finish(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: len(server.links) == 1)
        reader, writer = open_stream_pair(server.links[0].open())
        writer.write(b"GET / HTTP/1.1\r\nHost: vm-1\r\n\r\n")
        await reader.readline()
        draining = asyncio.ensure_future(node.links.drain(10))
        await until(lambda: server.links[0].session.go_away_received)
        assert not draining.done()
        writer.write_eof()
        await draining
        writer.close()
        await server.links[0].closed
        assert len(server.requests) == 1


async def test_a_successor_that_a_relay_takes_has_the_link_before_it_is_in_force(node, kit, until):
    async with relays(kit) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        heir = node.identity(relays=(server.url,))
        assert await node.links.prove(heir)
        assert server.requests[1].token == heir.listen_token.reveal()
        assert server.requests[1].sequence > server.requests[0].sequence
        await server.links[0].closed
        assert node.ready.reason is None
        assert await node.links.prove(heir)
        node.credentials.adopt(heir)
        await asyncio.sleep(0.05)
        assert len(server.requests) == 2
        assert not server.links[1].lost
        await node.links.close()


async def test_a_link_that_its_own_successor_supersedes_is_succeeded(node, kit, until, logged):
    async def supersede(request):
        if server.links:
            await notice(server.links[0], type="superseded")

    async with relays(kit, before_answer=supersede) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        heir = node.identity(relays=(server.url,))
        assert await node.links.prove(heir)
        await server.links[0].closed
        node.credentials.adopt(heir)
        assert (len(server.requests), node.ready.reason) == (2, None)
        assert not any(entry["event"] == "link.superseded" for entry in logged.entries)
        await node.links.close()


async def test_a_link_that_is_superseded_by_a_successor_that_comes_to_nothing_is_made_anew(node, kit, until, logged):
    refused = set()

    def refuse(request):
        return refusal(401, "UNAUTHENTICATED") if request.token in refused else None

    async def supersede(request):
        if request.token in refused:
            await notice(server.links[0], type="superseded")

    async with relays(kit, refuse=refuse, before_answer=supersede) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        heir = node.identity(relays=(server.url,))
        refused.add(heir.listen_token.reveal())
        assert not await node.links.prove(heir)
        await until(lambda: len(server.links) == 2)
        await until(lambda: node.ready.reason is None)
        assert not any(entry["event"] == "link.superseded" for entry in logged.entries)
        await node.links.close()


async def test_a_successor_that_no_relay_takes_leaves_the_link_alone(node, kit, until, logged):
    refused = set()

    def refuse(request):
        return refusal(401, "UNAUTHENTICATED") if request.token in refused else None

    async with relays(kit, refuse=refuse) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.ready.reason is None)
        heir = node.identity(relays=(server.url,))
        refused.add(heir.listen_token.reveal())
        assert not await node.links.prove(heir)
        assert not server.links[0].lost
        assert (len(server.requests), node.ready.reason, node.asked_for_token) == (2, None, 0)
        assert any(entry["event"] == "link.successor_not_taken" for entry in logged.entries)
        await node.links.close()


async def test_a_successor_is_taken_where_the_old_identity_is_not(node, kit, until):
    old = node.credentials.current.listen_token.reveal()

    def refuse(request):
        return refusal(401, "UNAUTHENTICATED") if request.token == old else None

    async with relays(kit, refuse=refuse) as (server,):
        node.links.configure((server.url,))
        await until(lambda: node.asked_for_token >= 1)
        assert await node.links.prove(node.identity(relays=(server.url,)))
        await until(lambda: node.ready.reason is None)
        assert len(server.links) == 1
        await node.links.close()


async def test_before_the_relays_are_known_no_successor_is_proved(node):
    assert not await node.links.prove(node.identity())


async def test_without_any_relay_there_is_nothing_to_prove_a_successor_at(node):
    node.links.configure(())
    assert await node.links.prove(node.identity())


async def test_a_relay_that_is_away_proves_nothing(node, kit):
    node.links.configure(("https://localhost:1",))
    assert not await node.links.prove(node.identity())
    await node.links.close()
