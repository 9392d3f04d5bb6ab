"""A node as programs call it: which token each call has."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from certs.tls import client_context
from tests.support.canned_relay import CannedCall, CannedRelay
from trunkline.channel.outcomes import Outcome, relay_response
from trunkline.client.errors import Unauthenticated
from trunkline.client.node import Node
from trunkline.client.node_sender import NodeSender
from trunkline.client.records.relays import RelayAddress
from trunkline.client.records.tokens import AccessToken
from trunkline.client.relays import Relays
from trunkline.client.workspace import WorkspaceApi

VIRTUAL_TIME = True
FAR_MS = 10**15
Call = Callable[[Node], Awaitable[object]]


class Tokens:
    """The workspace, as far as it gives tokens: t-1, t-2, …"""

    given = 0

    async def create_call_token(self, node: str, scopes: list[str], *, lifetime_seconds: int) -> AccessToken:
        self.given += 1
        relays = [RelayAddress(url="https://relay.test")]
        return AccessToken(token=f"t-{self.given}", expire_time=FAR_MS, host="vm-1.main.trunk.internal", relays=relays)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    """One whose relay does not accept the first token that it is given."""

    async def answering(call: CannedCall) -> None:
        token = dict(call.head.fields)[b"Proxy-Authorization"]
        if token == b"Bearer t-1":
            call.answer(relay_response(Outcome.REVOKED, "it was revoked", request_id="rq-1"))
        elif call.head.method == b"CONNECT":
            call.answer(b"HTTP/1.1 200 OK\r\n\r\n")
            await call.reader.read(-1)
            call.writer.close()
        else:
            call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    relay = CannedRelay(answering)
    relays = Relays(lambda url: NodeSender(url, ssl_context=client_context(), dial=relay.dial, rng=random.Random(1)))
    yield Node(cast(WorkspaceApi, Tokens()), "vm-1", relays)
    await relays.close()
    await relay.close()


async def request(node: Node) -> None:
    assert await (await node.request("GET", "/", port=8000)).read() == b"ok"


async def connection(node: Node) -> None:
    _, writer = await node.open_connection(8000)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("call", [request, connection])
async def test_a_token_that_is_not_accepted_any_more_is_not_used_again(node: Node, call: Call) -> None:
    with pytest.raises(Unauthenticated):
        await call(node)
    await call(node)
