"""A node as programs call it: which token each call has."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from certs.tls import client_context
from tests.support.canned_relay import CannedCall, CannedRelay
from trunkline.channel.outcomes import Outcome, relay_response
from trunkline.channel.upgrade import LinkRefused
from trunkline.client.errors import ApiError, Unauthenticated
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
    most = 9

    async def create_call_token(self, node: str, scopes: list[str]) -> AccessToken:
        if self.given == self.most:
            raise ApiError(403, "PERMISSION_DENIED", "the node is revoked")
        self.given += 1
        relays = [RelayAddress(url="https://relay.test")]
        return AccessToken(token=f"t-{self.given}", expire_time=FAR_MS, host="vm-1.main.trunk.internal", relays=relays)


@pytest.fixture
async def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
async def relay() -> AsyncIterator[CannedRelay]:
    """One that does not accept the first token that there is."""

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
    yield relay
    await relay.close()


@pytest.fixture
async def node(relay: CannedRelay, tokens: Tokens) -> AsyncIterator[Node]:
    relays = Relays(lambda url: NodeSender(url, ssl_context=client_context(), dial=relay.dial, rng=random.Random(1)))
    yield Node(cast(WorkspaceApi, tokens), "vm-1", relays)
    await relays.close()


async def request(node: Node) -> None:
    assert await (await node.request("GET", "/", port=8000)).read() == b"ok"


async def connection(node: Node) -> None:
    _, writer = await node.open_connection(8000)
    writer.close()
    await writer.wait_closed()


async def post(node: Node) -> None:
    assert await (await node.request("POST", "/", port=8000, body=b"x")).read() == b"ok"


async def pieces(node: Node) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    assert await (await node.request("PUT", "/", port=8000, body=body())).read() == b"ok"


@pytest.mark.parametrize("call", [request, connection])
async def test_a_call_whose_token_is_not_accepted_any_more_is_made_with_a_new_one(
    node: Node, tokens: Tokens, call: Call
) -> None:
    await call(node)
    await call(node)
    assert tokens.given == 2


@pytest.mark.parametrize("call", [post, pieces])
async def test_what_may_have_reached_the_node_is_not_made_again(node: Node, tokens: Tokens, call: Call) -> None:
    with pytest.raises(Unauthenticated):
        await call(node)
    assert tokens.given == 1
    await call(node)
    assert tokens.given == 2


@pytest.mark.parametrize("call", [request, connection, post, pieces])
async def test_a_call_that_was_never_sent_since_its_link_was_refused_is_made_with_a_new_token(
    node: Node, relay: CannedRelay, tokens: Tokens, call: Call
) -> None:
    relay.refusals = [LinkRefused(401, "the key is no longer trusted", error_code="UNAUTHENTICATED")]
    await call(node)
    assert (relay.tokens, tokens.given) == (["t-1", "t-2"], 2)


@pytest.mark.parametrize("call", [request, post])
async def test_a_token_that_is_refused_anew_is_an_error(node: Node, relay: CannedRelay, call: Call) -> None:
    relay.refusals = [LinkRefused(401, "refused", error_code="UNAUTHENTICATED")] * 2
    with pytest.raises(Unauthenticated, match="refused"):
        await call(node)
    assert relay.tokens == ["t-1", "t-2"]


async def test_where_there_is_no_new_token_the_error_is_what_the_relay_said(node: Node, tokens: Tokens) -> None:
    tokens.most = 1
    with pytest.raises(Unauthenticated, match="it was revoked"):
        await request(node)
