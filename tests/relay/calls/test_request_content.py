import asyncio
import itertools

import pytest

from relay.calls.content_rest import TURN_CHUNKS
from tests.relay.senders.test_connection import SMUGGLED, relay_answer
from tests.support.links import ticks
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle
from trunkline.channel.bodies import BodyReader
from trunkline.channel.fields import Framing

BAD_CHUNKS = {
    "extension": b"1;a=b\r\nx\r\n0\r\n\r\n",
    "bare_lf": b"1\nx\n0\n\n",
    "negative": b"-1\r\nx\r\n",
    "too_long": b"1\r\nxx\r\n0\r\n\r\n",
    "too_big": b"f" * 17 + b"\r\n",
    "framing_in_trailer": b"0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("content", BAD_CHUNKS.values(), ids=BAD_CHUNKS.keys())
@on_relay()
async def test_smuggling_in_chunks_ends_the_connection_and_the_call(relay: SmallRelay, content: bytes) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/first", b"Transfer-Encoding: chunked", method=b"POST") + content + SMUGGLED)
    await asyncio.sleep(3)
    head, document = relay_answer(bytes(sender.received))
    assert (head.status, document["error_code"]) == (400, "BAD_REQUEST")
    assert all(call.lost is not None and b"0\r\n\r\n" not in call.content for call in node.calls)
    assert sender.lost


@on_relay()
async def test_slow_content_is_refused(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/", b"Content-Length: 100000", method=b"PUT"))
    for _ in range(30):
        if sender.lost:
            break
        sender.send(b"x")
        await asyncio.sleep(1)
    head, _ = relay_answer(bytes(sender.received))
    assert head.status == 408
    assert node.calls[0].lost is not None
    assert relay.metric("deadlines_total", deadline="body_rate") == 1


@on_relay()
async def test_content_that_the_node_does_not_take_has_no_rate(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.greedy = False
    sender.send(get(b"/", b"Content-Length: 400000", method=b"PUT") + b"x" * 400_000)
    await asyncio.sleep(600)
    assert not sender.lost
    node.greedy = True
    node.calls[0].take()
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert len(node.calls[0].content) == 400_000
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_expect_continue_is_left_to_the_node(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/", b"Expect: 100-continue", b"Content-Length: 3", method=b"PUT"))
    await asyncio.sleep(60)
    assert b"Expect: 100-continue" in node.calls[0].received
    node.calls[0].answer(b"HTTP/1.1 100 Continue\r\n\r\n", end=False)
    await settle()
    assert sender.take() == b"HTTP/1.1 100 Continue\r\nVia: 1.1 trunkline\r\n\r\n"
    sender.send(b"abc")
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert node.calls[0].content == b"abc"
    assert sender.take().endswith(b"hello")
    assert not sender.lost


@on_relay()
async def test_full_duplex_call_goes_on_after_an_early_head(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/", b"Transfer-Encoding: chunked", method=b"POST"))
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", end=False)
    for number in range(120):
        sender.send(b"1\r\nx\r\n")
        await asyncio.sleep(60)
        assert node.calls[0].content.count(b"1\r\nx\r\n") == number + 1
        node.calls[0].answer(b"1\r\ny\r\n", end=False)
        await settle()
        assert sender.received.count(b"1\r\ny\r\n") == number + 1
    sender.send(b"0\r\n\r\n")
    node.calls[0].answer(b"0\r\n\r\n")
    await settle()
    assert sender.received.endswith(b"0\r\n\r\n")
    assert sender.lost


# Content in very many chunks

MANY = TURN_CHUNKS * 10
CHUNKED = get(b"/", b"Transfer-Encoding: chunked", method=b"PUT")
IN_CHUNKS = b"".join(b"1\r\n%c\r\n" % (33 + number % 90) for number in range(MANY))
CONTENT = bytes(33 + number % 90 for number in range(MANY))


def decoded(content: bytes) -> bytes:
    """The content as it came to the node, and whether it came to its end."""
    reader = BodyReader(Framing.CHUNKED)
    piece = reader.receive_data(content)
    return b"".join(piece.chunks) + (b"$" if piece.ended else b"")


@on_relay()
async def test_very_many_chunks_leave_turns_to_others(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(CHUNKED + IN_CHUNKS + b"0\r\n\r\n" + get(b"/next"))
    came: list[int] = []
    for _ in range(100):
        await asyncio.sleep(0)
        came.append(int(relay.metric("body_bytes_total", direction="to_node")))
    assert max(after - before for before, after in itertools.pairwise(came)) == TURN_CHUNKS
    await settle()
    assert decoded(node.calls[0].content) == CONTENT + b"$"
    assert len(node.calls) == 1
    node.calls[0].answer(reply())
    await settle()
    assert node.calls[1].head.startswith(b"GET /next ")
    node.calls[1].answer(reply(b"second"))
    await settle()
    assert sender.take().endswith(b"second")
    sender.transport.close()


@on_relay()
async def test_a_connection_is_read_again_behind_very_many_chunks(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    for number in range(4):
        sender.send(CHUNKED + IN_CHUNKS + b"0\r\n\r\n")
        await settle()
        assert decoded(node.calls[number].content) == CONTENT + b"$"
        node.calls[number].answer(reply())
        await settle()
        assert sender.take().endswith(b"hello")
    sender.transport.close()


@on_relay()
async def test_an_answer_before_the_last_of_very_many_chunks_ends_the_connection(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = lambda call: call.answer(reply()) if not call.stream.end_delivered and call.stream.writable else None
    sender.send(CHUNKED + IN_CHUNKS * 4)
    await asyncio.sleep(10)
    assert sender.received.endswith(b"hello")
    assert sender.lost
    assert len(decoded(node.calls[0].content)) < 4 * MANY


@on_relay()
async def test_a_sender_who_goes_between_very_many_chunks_resets_the_call(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(CHUNKED + IN_CHUNKS)
    await ticks(6)
    sender.transport.abort()
    await settle()
    assert node.calls[0].lost is not None
    assert CONTENT.startswith(decoded(node.calls[0].content))


@on_relay()
async def test_broken_framing_behind_very_many_chunks_is_refused(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(CHUNKED + IN_CHUNKS + b"1;a=b\r\nx\r\n0\r\n\r\n" + SMUGGLED)
    await asyncio.sleep(5)
    head, document = relay_answer(bytes(sender.received))
    assert (head.status, document["error_code"]) == (400, "BAD_REQUEST")
    assert len(node.calls) == 1
    assert node.calls[0].lost is not None
    assert sender.lost
