"""Calls through several relays in memory: what was never sent is made again elsewhere, and nothing else is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from certs.tls import client_context
from tests.support.canned_relay import CannedCall, CannedRelay
from trunkline.channel.outcomes import Outcome, relay_response
from trunkline.client.errors import CallInterrupted, NodeUnreachable, PermissionRefused, RelayRefused, Unreachable
from trunkline.client.node_sender import NodeSender
from trunkline.client.records.relays import RelayAddress
from trunkline.client.records.tokens import AccessToken
from trunkline.client.relays import Relays
from trunkline.client.routing import Route

VIRTUAL_TIME = True
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
URLS = ("https://relay-1.test", "https://relay-2.test")


def refusal(outcome: Outcome) -> bytes:
    return relay_response(outcome, "why", request_id="rq-1")


class Fleet:
    """Relays that answer one call after the other as scripted, and then with success."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[bytes | None]] = {url: [] for url in URLS}
        self.called: list[str] = []
        self.relays = {url: CannedRelay(self._answering(url)) for url in URLS}
        self.clients = Relays(self._sender)
        self.route = Route(self.clients, rng=random.Random(1))
        self.token = AccessToken(token="t", expire_time=1, host="vm-1", relays=[RelayAddress(url=url) for url in URLS])

    def _sender(self, url: str) -> NodeSender:
        return NodeSender(url, ssl_context=client_context(), dial=self.relays[url].dial, rng=random.Random(1))

    def _answering(self, url: str):
        async def answer(call: CannedCall) -> None:
            self.called.append(url)
            answer = self.scripts[url].pop(0) if self.scripts[url] else OK
            if answer is None:
                call.reset()
            else:
                call.answer(answer)

        return answer

    async def call(self, method: str = "GET") -> int:
        async def make(sender: NodeSender) -> int:
            response = await sender.request(method, "vm-1.main.trunk.internal", "/", token="t")
            await response.read()
            return response.status

        return await self.route.call(self.token, make)


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    fleet = Fleet()
    yield fleet
    await fleet.clients.close()
    for relay in fleet.relays.values():
        await relay.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("outcome", [Outcome.NO_LISTENER, Outcome.DRAINING, Outcome.STALE_TRUST])
async def test_what_was_never_sent_is_sent_through_the_other_relay(fleet: Fleet, outcome: Outcome, method: str) -> None:
    fleet.scripts[URLS[0]] = [refusal(outcome)]
    assert await fleet.call(method) == 200
    assert fleet.called == list(URLS)


async def test_the_relay_that_had_the_node_is_asked_first(fleet: Fleet) -> None:
    fleet.scripts[URLS[0]] = [refusal(Outcome.NO_LISTENER)]
    await fleet.call()
    await fleet.call()
    assert fleet.called == [*URLS, URLS[1]]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refusal(Outcome.LISTENER_LOST), NodeUnreachable),
        (refusal(Outcome.LISTENER_SILENT), RelayRefused),
        (refusal(Outcome.OVER_QUOTA), RelayRefused),
        (refusal(Outcome.MISSING_SCOPE), PermissionRefused),
        (refusal(Outcome.INTERNAL_ERROR), RelayRefused),
        (None, CallInterrupted),
    ],
)
async def test_nothing_else_is_made_again(fleet: Fleet, answer: bytes | None, error: type[Exception]) -> None:
    fleet.scripts[URLS[0]] = [answer]
    with pytest.raises(error):
        await fleet.call()
    assert fleet.called == [URLS[0]]


async def test_a_node_that_is_away_for_a_moment_is_asked_for_once_more(fleet: Fleet) -> None:
    away = refusal(Outcome.NO_LISTENER)
    fleet.scripts = {URLS[0]: [away], URLS[1]: [away]}
    began = asyncio.get_running_loop().time()
    assert await fleet.call() == 200
    assert fleet.called == [*URLS, URLS[0]]
    assert asyncio.get_running_loop().time() - began < 5


async def test_a_node_that_is_nowhere_is_not_asked_for_for_ever(fleet: Fleet) -> None:
    fleet.scripts = {url: [refusal(Outcome.NO_LISTENER)] * 5 for url in URLS}
    with pytest.raises(NodeUnreachable, match="why"):
        await fleet.call()
    assert fleet.called == [*URLS, URLS[0]]


async def test_a_relay_that_is_down_is_passed_over_and_then_asked_last(fleet: Fleet) -> None:
    fleet.relays[URLS[0]].down = True
    assert await fleet.call() == 200
    dialled = len(fleet.relays[URLS[0]].tokens)
    assert await fleet.call() == 200
    assert fleet.called == [URLS[1]] * 2
    assert dialled > 1


@pytest.mark.parametrize("way", ["call", "linked"])
async def test_where_the_link_is_lost_and_is_not_made_again_the_other_relay_is_asked_at_once(
    fleet: Fleet, way: str
) -> None:
    assert await fleet.call() == 200
    gone = fleet.relays[URLS[0]]
    gone.dial_seconds = 60.0
    await gone.close()
    senders = fleet.clients.senders(fleet.token.relays)
    while senders[URLS[0]].linked:  # noqa: ASYNC110 - nobody tells that a link was lost
        await asyncio.sleep(0.01)
    began = asyncio.get_running_loop().time()
    if way == "call":
        assert await fleet.call() == 200
    else:
        assert await fleet.route.linked(fleet.token) is senders[URLS[1]]
    assert asyncio.get_running_loop().time() - began < 1
    assert fleet.called == [URLS[0], *([URLS[1]] if way == "call" else [])]


async def test_with_every_relay_down_the_reason_is_told(fleet: Fleet) -> None:
    for relay in fleet.relays.values():
        relay.down = True
    with pytest.raises(Unreachable, match=r"no link to the relay https://relay-2\.test"):
        await fleet.call()


@pytest.mark.parametrize("slow", [0, 1])
async def test_a_link_that_takes_longer_than_the_patience_for_one_relay_is_taken_all_the_same(
    fleet: Fleet, slow: int
) -> None:
    fleet.relays[URLS[slow]].dial_seconds = 6.5
    fleet.relays[URLS[1 - slow]].down = True
    assert await fleet.call() == 200
    assert fleet.called == [URLS[slow]]


@pytest.mark.parametrize("slow", [0, 1])
async def test_a_link_is_opened_though_it_takes_longer_than_the_patience_for_one_relay(fleet: Fleet, slow: int) -> None:
    fleet.relays[URLS[slow]].dial_seconds = 6.5
    fleet.relays[URLS[1 - slow]].dial_seconds = 60.0
    sender = await fleet.route.linked(fleet.token)
    assert sender.linked
    assert len(fleet.relays[URLS[slow]].links) == 1


async def test_links_are_waited_for_no_longer_with_several_relays_than_with_one(fleet: Fleet) -> None:
    for relay in fleet.relays.values():
        relay.dial_seconds = 60.0
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unreachable):
        await fleet.route.linked(fleet.token)
    assert asyncio.get_running_loop().time() - began == pytest.approx(10.0, abs=0.1)


async def test_without_relays(fleet: Fleet) -> None:
    fleet.token = fleet.token.model_copy(update={"relays": []})
    with pytest.raises(Unreachable, match="names no relay"):
        await fleet.call()


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_call_that_crosses_a_relays_goodbye_is_made_again(fleet: Fleet, method: str) -> None:
    assert await fleet.call(method) == 200
    fleet.relays[URLS[0]].links[0].go_away()
    assert await fleet.call(method) == 200
    assert fleet.called == [URLS[0], URLS[1]]
