"""Whatever way calls end, and however often: nothing of them is left."""

import asyncio
import gc
from collections import Counter
from collections.abc import Callable, Coroutine

import pytest

from relay.calls.exchange import Exchange
from relay.senders.connection import SenderConnection
from relay.senders.links import SenderStream
from relay.senders.write_stall import WriteStall
from tests.relay.senders.test_links import Sender as LinkSender
from tests.relay.senders.test_links import request
from tests.support.small_relay import HOST, Node, NodeCall, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.link import LinkStream

CYCLES = 300
CONNECT = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
OURS = (Exchange, LinkStream, SenderConnection, SenderStream, WriteStall)

Cycle = Callable[[SmallRelay, Node, LinkSender], Coroutine[None, None, None]]


def answer(call: NodeCall) -> None:
    """What the node does: it echoes raw bytes, resets what asks for it, and answers the rest."""
    if call.received.startswith(b"CONNECT"):
        if not call.content:
            call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    elif b"/reset" in call.head:
        call.stream.reset()
    elif b"/half" in call.head:
        call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
    elif b"/silent" not in call.head and call.stream.writable:
        call.answer(reply(b"x" * 2000))


async def whole_calls_on_a_connection(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    sender = relay.connect()
    sender.send(get() * 3)
    await settle()
    assert sender.received.count(b"200 OK") == 3
    sender.transport.close()


async def cancelled_on_a_connection(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    for path in (b"/silent", b"/half", b"/reset", b"/"):
        sender = relay.connect()
        sender.send(get(path) + get()[:40])
        await asyncio.sleep(0)
        sender.transport.abort()


async def refused(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    sender = relay.connect()
    sender.send(get(token=b"bad"))
    await settle()
    sender.transport.close()
    link.call(request(token=b"bad"))


async def half_closed_raw_streams(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    sender = relay.connect()
    sender.send(CONNECT)
    call = link.call(request(b"/silent")[:-2].replace(b"GET /silent", b"CONNECT " + HOST + b":22") + b"\r\n")
    await settle()
    sender.send(b"ping")
    call.stream.end()
    await settle()
    sender.transport.close()
    call.stream.reset()


async def ended_in_every_way_on_a_link(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    calls = [link.call(request(path)) for path in (b"/", b"/silent", b"/half", b"/reset")]
    unfinished = link.call(request()[:30])
    calls[0].stream.end()
    await settle()
    for call in (*calls, unfinished):
        call.stream.reset()


async def readers_that_stand_still(relay: SmallRelay, node: Node, link: LinkSender) -> None:
    for _ in range(2):
        sender = relay.connect()
        sender.transport.pause_reading()
        sender.send(get() * 60)
        await settle()
        sender.transport.abort()


CYCLES_OF_ALL_KINDS: list[Cycle] = [
    whole_calls_on_a_connection,
    cancelled_on_a_connection,
    refused,
    half_closed_raw_streams,
    ended_in_every_way_on_a_link,
    readers_that_stand_still,
]


def left() -> Counter[str]:
    """What there is of ours, once the garbage is gone."""
    gc.collect()
    return Counter(type(one).__name__ for one in gc.get_objects() if isinstance(one, OURS))


@pytest.mark.parametrize("cycle", CYCLES_OF_ALL_KINDS, ids=lambda cycle: cycle.__name__)
@on_relay(stream_stall_seconds=5)
async def test_nothing_is_left(relay: SmallRelay, cycle: Cycle) -> None:
    node, link = relay.attach_node(), LinkSender(relay)
    node.script = answer
    before, tasks = left(), len(asyncio.all_tasks())
    for number in range(CYCLES):
        await cycle(relay, node, link)
        if number % 50 == 49:
            await asyncio.sleep(10)
            relay.forget_ended()
            node.calls.clear()
    assert link.link.streams == link.relay_side.link.streams == node.link.streams == 0
    assert relay.budget.held_bytes == relay.budget.reserved_bytes == 0
    assert not relay.port.connections
    assert not relay.deadlines._watched
    assert len(asyncio.all_tasks()) == tasks
    assert left() - before == Counter()
    link.ends[0].abort()
