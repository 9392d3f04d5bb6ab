"""A Go program at a real relay, written from docs/protocol.md: as a listener, and as a sender at the link door."""

import asyncio
import io
import random

import aiohttp
import pytest

from bench.credentials import Credentials
from bench.relay import running_relay
from tests.support.foreign_peers import ForeignPeer, running_peer
from trunkline.channel.proxy_connect import format_authority

# The first one has the Go peer compiled, and with it, once on a machine, all that it needs of Go's own library.
pytestmark = [pytest.mark.interop, pytest.mark.e2e, pytest.mark.timeout(300)]

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def credentials(tmp_path_factory):
    return Credentials(tmp_path_factory.mktemp("credentials") / "kit")


@pytest.fixture(scope="module")
def relay(credentials, tmp_path_factory):
    with running_relay(tmp_path_factory.mktemp("relay") / "relay", credentials) as relay:
        yield relay


class Node:
    """A node's credentials, the Go program that is its agent, and how a sender reaches it."""

    peer: ForeignPeer

    def __init__(self, credentials, relay, directory):
        self.credentials = credentials.nodes(1)[0]
        self._relay = relay
        self._directory = directory
        self._roots = credentials.roots
        self.url = relay.url + self.credentials.gateway
        self.headers = {"Authorization": f"Bearer {self.credentials.call_token}"}
        self.context = credentials.client_context()

    def listener(self):
        identity = self._write("identity.pem", self.credentials.identity)
        return self._environment(self.credentials.listen_token) | {"IDENTITY_FILE": identity}

    def sender(self):
        return self._environment(self.credentials.call_token) | {"NODE_HOST": self.credentials.host}

    def command(self, go_peer, *arguments):
        return [str(go_peer), format_authority("localhost", self._relay.port), *arguments]

    def _environment(self, token):
        name = f"token-{len(token)}"
        return {"TRUNKLINE_RELAY": "1", "CA_FILE": str(self._roots), "TOKEN_FILE": self._write(name, token)}

    def _write(self, name, content):
        path = self._directory / name
        path.write_text(content)
        return str(path)


@pytest.fixture
async def node(credentials, relay, go_peer, tmp_path):
    """A node whose agent is the Go program; it is up."""
    node = Node(credentials, relay, tmp_path)
    async with running_peer(node.command(go_peer, "server", "serve"), node.listener()) as node.peer:
        await node.peer.wait_for("up")
        yield node


@pytest.fixture
async def client(node):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=node.context), headers=node.headers) as client:
        yield client


async def test_calls_reach_a_go_listener_through_the_gateway(node, client):
    async def hello():
        async with client.get(f"{node.url}/hello") as answer:
            return answer.status, await answer.text()

    expected = (200, f"hello from {node.credentials.host} via HTTP/1.1")
    assert set(await asyncio.gather(*(hello() for _ in range(100)))) == {expected}


async def test_ten_megabytes_go_both_ways(node, client):
    body = random.Random(4).randbytes(10 * MEGABYTE)
    async with client.post(f"{node.url}/echo", data=io.BytesIO(body)) as answer:
        assert answer.status == 200
        assert await answer.read() == body


async def test_a_go_handler_is_cancelled_when_the_sender_goes(node, client):
    async with client.get(f"{node.url}/cancelled") as answer:
        assert answer.status == 200
        await node.peer.wait_for("waiting")
        answer.close()
        await node.peer.wait_for("cancelled")


async def test_a_go_sender_at_the_link_door(node, go_peer):
    command = node.command(go_peer, "client", "fetch", "50", "10000")
    async with running_peer(command, node.sender()) as sender:
        assert await sender.wait_for("fetched") == "fetched 50 10000"
        assert await sender.wait_for_end() == 0
