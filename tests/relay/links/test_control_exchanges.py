"""What a listener asks of its relay, where it does not take the answers; what it may ask is in `test_registry`."""

import asyncio
from dataclasses import replace

from relay.links.listeners import MAX_CONTROL_EXCHANGES
from tests.support.small_relay import Node, SmallRelay, get, on_relay, settle
from trunkline.channel.link import LinkStream
from trunkline.channel.link_output import LinkOutput
from trunkline.channel.link_stream import StreamHandler

REQUEST = b"GET / HTTP/1.1\r\nHost: link.internal\r\n\r\n"


class Asking:
    """A stream of a node that asks its relay something."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes | memoryview) -> None:
        self.received += data

    def end_received(self) -> None:
        pass

    def window_opened(self) -> None:
        pass

    def stream_lost(self, error: Exception) -> None:
        pass


def ask(node: Node, handler: StreamHandler, *, end: bool = True) -> LinkStream:
    stream = node.link.open(handler)
    stream.write(REQUEST, end=end)
    return stream


async def asked_for_much(relay: SmallRelay) -> tuple[Node, LinkOutput]:
    """A node that takes nothing of its link, which is full, and minds no bounds of its own."""
    node = relay.attach_node()
    (listener,) = relay.registry.listeners
    node.pause_reading()
    for _ in range(8):
        relay.connect().send(get(b"/", b"Content-Length: 1000000", method=b"PUT") + b"x" * 100_000)
    await settle()
    node.link.session._limits = replace(node.link.session._limits, max_unacked_streams=10**6, max_streams=10**6)
    return node, listener.link


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_answers_that_are_not_taken_do_not_pile_up(relay: SmallRelay) -> None:
    node, link = await asked_for_much(relay)
    for _ in range(1000):
        ask(node, Asking())
        await asyncio.sleep(0)
    await settle()
    collected = b"".join(bytes(piece) for piece in link.session._outgoing)
    assert collected.count(b"HTTP/1.1 404") <= MAX_CONTROL_EXCHANGES
    assert link.session.streams.keys() == {*range(1, 16, 2), *range(2, 2 + 2 * MAX_CONTROL_EXCHANGES, 2)}


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_an_answer_waits_for_its_turn(relay: SmallRelay) -> None:
    node, link = await asked_for_much(relay)
    ended, open_ended = Asking(), Asking()
    ask(node, ended)
    stream = ask(node, open_ended, end=False)
    await settle()
    node.resume_reading()
    await settle()
    assert [asking.received.startswith(b"HTTP/1.1 404") for asking in (ended, open_ended)] == [True, True]
    stream.end()
    await settle()
    assert not any(number % 2 == 0 for number in link.session.streams)


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_an_answer_waits_no_longer_than_its_exchange_may(relay: SmallRelay) -> None:
    node, link = await asked_for_much(relay)
    ask(node, Asking())
    await asyncio.sleep(relay.limits.notice_seconds + 1)
    assert not any(number % 2 == 0 for number in link.session.streams)
