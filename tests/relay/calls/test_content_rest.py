"""Content in very many chunks, of a node's response and of a request on a link: others have turns in between."""

import asyncio
import itertools

import pytest

from relay.calls.content_rest import TURN_CHUNKS, ContentRest
from tests.relay.calls.test_exchange import begin, read
from tests.relay.calls.test_request_content import decoded
from tests.relay.senders.test_links import Call, Sender, request
from tests.support.small_relay import NodeCall, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.errors import ErrorCode

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MANY = TURN_CHUNKS * 10
IN_CHUNKS = b"".join(b"1\r\n%c\r\n" % (33 + number % 90) for number in range(MANY))
CONTENT = bytes(33 + number % 90 for number in range(MANY))
LAST = b"0\r\n\r\n"


async def growth(relay: SmallRelay, direction: str, turns: int = 200) -> list[int]:
    """How many bytes of content were passed on in each turn of the loop."""
    came: list[int] = []
    for _ in range(turns):
        await asyncio.sleep(0)
        came.append(int(relay.metric("body_bytes_total", direction=direction)))
    return [after - before for before, after in itertools.pairwise(came)]


async def sent(call: NodeCall | Call) -> None:
    """Wait until an end has sent everything, of which the relay has not taken all in yet."""
    while call.unsent_bytes:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)


def test_small_pieces_that_wait_cost_hardly_more_than_their_bytes() -> None:
    rest = ContentRest(b"x" * 100_000)
    for _ in range(10_000):
        rest.add(b"ab")
    rest.add(memoryview(b"c" * 5000))
    assert len(rest.pieces) == 7
    assert b"".join(rest.pieces) == b"x" * 100_000 + b"ab" * 10_000 + b"c" * 5000


def test_small_pieces_are_taken_several_in_a_turn() -> None:
    rest = ContentRest(b"x" * 100_000)
    for _ in range(5):
        rest.add(b"a" * 4000)
    turns: list[int] = []
    while rest.pieces:
        rest.begin_turn()
        turns.append(sum(len(piece) for piece in iter(rest.take, None)))
    assert turns == [100_000, 12_000, 8000]


def test_what_is_put_back_is_the_first_of_another_turn() -> None:
    rest = ContentRest(b"abc" * 100)
    rest.add(b"x" * 4000)
    rest.begin_turn()
    assert rest.take() == b"abc" * 100
    rest.put_back(b"")
    assert rest.take() == b"x" * 4000
    rest.put_back(b"x" * 3000)
    assert rest.take() is None
    rest.begin_turn()
    assert rest.take() == b"x" * 3000


# Of responses


@on_relay()
async def test_a_response_in_very_many_chunks_leaves_turns_to_others(relay: SmallRelay) -> None:
    call, sender = await begin(relay, window_bytes=262_144)
    call.answer(HEAD + IN_CHUNKS + LAST)
    assert max(await growth(relay, "to_sender")) == TURN_CHUNKS
    await settle()
    _, content, _, leftover = read(sender.take())
    assert (content, leftover) == (CONTENT, b"")
    sender.send(get(b"/next"))
    await settle()
    call.node.calls[1].answer(reply(b"second"))
    await settle()
    assert sender.take().endswith(b"second"), "the connection is as good as before"
    sender.transport.close()


@on_relay()
async def test_a_response_of_many_windows_of_chunks_comes_whole(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.answer(HEAD + IN_CHUNKS * 6 + LAST)
    await asyncio.sleep(1)
    assert read(sender.take())[1] == CONTENT * 6
    sender.transport.close()


@pytest.mark.parametrize("cut", [len(IN_CHUNKS), len(IN_CHUNKS) - 3], ids=["between chunks", "within one"])
@on_relay()
async def test_a_stream_that_ends_behind_very_many_chunks_is_no_success(relay: SmallRelay, cut: int) -> None:
    call, sender = await begin(relay, window_bytes=262_144)
    call.answer(HEAD + IN_CHUNKS[:cut])
    await settle()
    assert isinstance(sender.error, ConnectionResetError)
    assert not sender.received.endswith(LAST)


@pytest.mark.parametrize("complete", [True, False])
@on_relay()
async def test_a_reset_behind_very_many_chunks_takes_nothing_of_them_away(relay: SmallRelay, complete: bool) -> None:
    call, sender = await begin(relay, window_bytes=262_144)
    call.answer(HEAD + IN_CHUNKS + (LAST if complete else b""), end=False)
    await sent(call)
    call.stream.reset()
    await settle()
    if complete:
        assert read(sender.take())[1] == CONTENT
        sender.transport.close()
    else:
        assert sender.lost
        assert not sender.received.endswith(LAST)
    assert relay.metric("calls_open", door="proxy") == 0


@on_relay()
async def test_what_comes_behind_very_many_chunks_reaches_nobody(relay: SmallRelay) -> None:
    call, sender = await begin(relay, window_bytes=262_144)
    call.answer(HEAD + IN_CHUNKS + LAST, end=False)
    call.answer(b"late", end=False)
    await settle()
    assert read(sender.take())[1] == CONTENT
    assert call.lost is not None
    sender.transport.close()


@on_relay()
async def test_a_sender_who_goes_between_the_chunks_of_a_response_resets_the_call(relay: SmallRelay) -> None:
    call, sender = await begin(relay, window_bytes=262_144)
    call.answer(HEAD + IN_CHUNKS, end=False)
    for _ in range(6):
        await asyncio.sleep(0)
    sender.transport.abort()
    await settle()
    assert call.lost is not None
    assert relay.metric("calls_open", door="proxy") == 0


# Of requests on links

CHUNKED = request(b"/", b"Transfer-Encoding: chunked", method=b"PUT")
WINDOW_BYTES = 262_144


@on_relay()
async def test_a_request_on_a_link_in_very_many_chunks_leaves_turns_to_others(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=WINDOW_BYTES)
    call = sender.call(CHUNKED + IN_CHUNKS + LAST)
    assert max(await growth(relay, "to_node")) == TURN_CHUNKS
    await settle()
    assert decoded(node.calls[0].content) == CONTENT + b"$"
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    assert call.ended
    sender.ends[0].abort()


@on_relay()
async def test_a_request_of_many_windows_of_chunks_comes_whole(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    sender.call(CHUNKED + IN_CHUNKS * 6 + LAST)
    await asyncio.sleep(1)
    assert decoded(node.calls[0].content) == CONTENT * 6 + b"$"
    sender.ends[0].abort()


@on_relay()
async def test_a_stream_carries_one_request_however_many_chunks_it_has(relay: SmallRelay) -> None:
    relay.attach_node()
    sender = Sender(relay, window_bytes=WINDOW_BYTES)
    behind = sender.call(CHUNKED + IN_CHUNKS + LAST + CHUNKED)
    await settle()
    assert behind.received.startswith(b"HTTP/1.1 400 ")
    sender.ends[0].abort()


@on_relay()
async def test_a_stream_that_ends_within_very_many_chunks_is_refused(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=WINDOW_BYTES)
    call = sender.call(CHUNKED + IN_CHUNKS)
    await sent(call)
    call.stream.end()
    await settle()
    assert call.received.startswith(b"HTTP/1.1 400 ")
    assert node.calls[0].lost is not None
    sender.ends[0].abort()


@on_relay()
async def test_a_request_whose_end_lies_before_the_streams_is_whole(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=WINDOW_BYTES)
    call = sender.call(CHUNKED + IN_CHUNKS + LAST)
    await sent(call)
    call.stream.end()
    await settle()
    assert decoded(node.calls[0].content) == CONTENT + b"$"
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    sender.ends[0].abort()


@on_relay()
async def test_a_sender_who_resets_between_the_chunks_of_a_request_resets_the_call(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=WINDOW_BYTES)
    call = sender.call(CHUNKED + IN_CHUNKS)
    for _ in range(6):
        await asyncio.sleep(0)
    call.stream.reset()
    await settle()
    assert node.calls[0].lost is not None
    assert node.calls[0].lost.code is ErrorCode.STREAM_RESET
    assert CONTENT.startswith(decoded(node.calls[0].content))
    assert sender.link.streams == 0
    sender.ends[0].abort()
