import asyncio

import pytest

from tests.support.small_relay import HOST, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.bodies import BodyReader
from trunkline.channel.errors import ErrorCode, StreamReset
from trunkline.channel.fields import Framing
from trunkline.channel.heads import parse_response_head

CONNECT = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
UPGRADE = get(b"/ws", b"Connection: Upgrade", b"Upgrade: websocket")
SWITCHING = b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def read(raw: bytes, method: bytes = b"GET"):
    """Head, content, trailers and leftover of what a sender got, read strictly; the response must be complete."""
    head, _, rest = raw.partition(b"\r\n\r\n")
    parsed = parse_response_head(head + b"\r\n\r\n", request_method=method)
    reader = BodyReader(parsed.framing, parsed.content_length or 0)
    piece = reader.receive_data(rest)
    assert reader.ended
    return parsed, b"".join(piece.chunks), reader.trailers, bytes(piece.leftover)


async def begin(relay: SmallRelay, request: bytes | None = None, **node):
    end, sender = relay.attach_node(**node), relay.connect()
    sender.send(get() if request is None else request)
    await settle()
    return end.calls[0], sender


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize(
    ("method", "answer", "content"),
    [
        (b"GET", reply(b"hello"), b"hello"),
        (b"GET", reply(b""), b""),
        (b"GET", reply(b"x" * 300_000), b"x" * 300_000),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 204 No\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 304 Same\r\nContent-Length: 7\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"GET", b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"GET", b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 X\r\nA: b\r\n\r\n" + reply(b"hello"), b"hello"),
    ],
)
@on_relay()
async def test_responses_of_every_framing_keep_the_connection(
    relay: SmallRelay, method: bytes, answer: bytes, content: bytes, compact: bool
) -> None:
    call, sender = await begin(relay, get(method=method), compact=compact)
    call.answer(answer)
    await asyncio.sleep(1)
    raw = sender.take()
    while raw.startswith(b"HTTP/1.1 1"):
        raw = raw.partition(b"\r\n\r\n")[2]
    _, got, _, leftover = read(raw, method)
    assert (got, leftover) == (content, b"")
    assert call.ended
    assert call.lost is None
    sender.send(get(b"/again"))
    await settle()
    call.node.calls[1].answer(reply(b"again"))
    await settle()
    assert sender.received.endswith(b"again")
    await asyncio.sleep(10)
    assert call.node.link.streams == 0


@pytest.mark.parametrize("step", [1, 7])
@pytest.mark.parametrize(
    "answer",
    [
        reply(b"hello", b"Date: x"),
        b"HTTP/1.1 200 OK\r\nDate: x\r\n\r\nuntil the end",
        b"HTTP/1.1 200 OK\r\nDate: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: \0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\n",
    ],
)
@on_relay()
async def test_any_split_of_the_response_gives_the_same_content(relay: SmallRelay, answer: bytes, step: int) -> None:
    call, sender = await begin(relay)
    call.answer(answer)
    await settle()
    whole = bytes(sender.received)
    other = relay.connect()
    other.send(get())
    await settle()
    call = call.node.calls[1]
    for start in range(0, len(answer), step):
        if call.stream.writable:
            call.answer(answer[start : start + step], end=start + step >= len(answer))
            await settle()
    if whole.startswith(b"HTTP/1.1 502"):
        assert other.received.startswith(b"HTTP/1.1 502")
    elif other.error is not None:
        assert sender.error is not None
    else:
        assert read(bytes(other.received))[1:] == read(whole)[1:]


@on_relay()
async def test_trailers_pass(relay: SmallRelay) -> None:
    request = get(b"/", b"Transfer-Encoding: chunked", b"Trailer: T", method=b"POST") + b"3\r\nabc\r\n0\r\nT: u\r\n\r\n"
    call, sender = await begin(relay, request)
    assert call.content == b"3\r\nabc\r\n0\r\nT: u\r\n\r\n"
    call.answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: u\r\n\r\n")
    await settle()
    assert read(bytes(sender.received))[1:] == (b"abc", [(b"T", b"u")], b"")


@on_relay()
async def test_large_content_both_ways_is_identical(relay: SmallRelay) -> None:
    content = bytes(range(256)) * 8000
    call, sender = await begin(relay, get(b"/", b"Content-Length: %d" % len(content), method=b"PUT") + content)
    await asyncio.sleep(1)
    assert call.content == content
    call.answer(reply(content))
    await asyncio.sleep(1)
    assert read(bytes(sender.received))[1] == content
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (content[:100_000], content[100_000:]))
    sender.take()
    sender.send(get(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + chunked + b"0\r\n\r\n")
    await asyncio.sleep(1)
    call = call.node.calls[1]
    reader = BodyReader(Framing.CHUNKED)
    assert b"".join(reader.receive_data(call.content).chunks) == content
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n" + content)
    await asyncio.sleep(1)
    assert read(bytes(sender.received))[1] == content


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
    ],
)
@on_relay()
async def test_reset_and_lost_link_break_the_response(relay: SmallRelay, answer: bytes) -> None:
    call, sender = await begin(relay)
    other = relay.connect()
    other.send(get())
    await settle()
    call.answer(answer, end=False)
    call.node.calls[1].answer(answer, end=False)
    await settle()
    call.stream.reset()
    await settle()
    assert isinstance(sender.error, ConnectionResetError)
    call.node.link.abort()
    await settle()
    assert isinstance(other.error, ConnectionResetError)


@on_relay()
async def test_reset_before_the_response_is_a_502(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.stream.reset()
    await settle()
    head, content, _, _ = read(sender.take())
    assert head.status == 502
    assert b"NODE_UNREACHABLE" in content
    assert b"the node ended the call" in content
    sender.send(get())
    await settle()
    call.node.link.abort()
    await settle()
    head, content, _, _ = read(bytes(sender.received))
    assert head.status == 502
    assert b"the way to the node was lost" in content


@on_relay()
async def test_late_bytes_reach_nobody(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.answer(reply(b"hello") + reply(b"poison"), end=False)
    await settle()
    assert read(sender.take())[1:] == (b"hello", [], b"")
    assert call.lost is not None
    sender.send(get(b"/again"))
    await settle()
    again = call.node.calls[1]
    again.answer(reply(b"again"), end=False)
    await settle()
    again.answer(reply(b"poison"), end=False)
    await settle()
    assert read(sender.take())[1:] == (b"again", [], b"")
    assert again.lost is not None


@pytest.mark.parametrize("compact", [True, False])
@on_relay()
async def test_connect_passes_raw_bytes_with_half_close(relay: SmallRelay, compact: bool) -> None:
    call, sender = await begin(relay, CONNECT + b"early", compact=compact)
    assert call.head.startswith(b"CONNECT %b:22 HTTP/1.1\r\n" % HOST)
    assert call.content == b""
    call.answer(b"HTTP/1.1 200 OK\r\n\r\nbanner", end=False)
    await settle()
    head, _, rest = bytes(sender.received).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == b"banner"
    assert call.content == b"early"
    sender.send(b"\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n")
    await asyncio.sleep(3600)
    assert call.content == b"early\x00\r\n\r\nGET / HTTP/1.1\r\n\r\n"
    call.answer(b"bye")
    await settle()
    assert sender.received.endswith(b"bye")
    assert sender.lost
    assert sender.error is None
    await settle()
    assert call.ended
    assert relay.metric("calls_total", door="proxy", outcome="forwarded") == 1


@on_relay()
async def test_sender_that_closes_a_raw_stream_half_closes_the_node(relay: SmallRelay) -> None:
    call, sender = await begin(relay, CONNECT)
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    call.node.greedy = False
    await settle()
    content = b"x" * 200_000
    sender.send(content)
    sender.transport.close()
    await asyncio.sleep(1)
    assert len(call.content) < 70_000
    for _ in range(10):
        call.take()
        await settle()
    assert call.content == content
    assert call.ended
    assert call.lost is None
    call.answer(b"nobody reads this")
    await settle()
    assert call.node.link.streams == 0


@on_relay()
async def test_sender_that_closes_a_raw_stream_does_not_wait_for_ever(relay: SmallRelay) -> None:
    call, sender = await begin(relay, CONNECT)
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    sender.transport.close()
    await asyncio.sleep(relay.limits.stream_stall_seconds + 1)
    assert call.lost is not None


@on_relay()
async def test_raw_stream_that_breaks_is_aborted(relay: SmallRelay) -> None:
    call, sender = await begin(relay, CONNECT)
    call.answer(b"HTTP/1.1 200 OK\r\n\r\nabc", end=False)
    await settle()
    call.stream.reset()
    await settle()
    assert isinstance(sender.error, ConnectionResetError)
    other = relay.connect()
    other.send(CONNECT)
    await settle()
    again = call.node.calls[1]
    again.answer(b"HTTP/1.1 200 OK\r\n\r\nabc", end=False)
    await settle()
    other.transport.abort()
    await settle()
    assert again.lost is not None


@on_relay()
async def test_websocket_passes(relay: SmallRelay) -> None:
    call, sender = await begin(relay, UPGRADE)
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in call.received
    call.answer(SWITCHING + b"\x81\x02hi", end=False)
    await settle()
    assert bytes(sender.received).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert sender.received.endswith(b"\r\n\r\n\x81\x02hi")
    sender.send(b"\x81\x82abcd")
    await asyncio.sleep(7200)
    assert call.content == b"\x81\x82abcd"
    assert not sender.lost


@on_relay()
async def test_bytes_behind_an_accepted_upgrade_are_the_protocols(relay: SmallRelay) -> None:
    call, sender = await begin(relay, UPGRADE + b"\x81\x80abcd")
    assert call.content == b""
    call.answer(SWITCHING, end=False)
    await settle()
    assert call.content == b"\x81\x80abcd"
    assert not sender.lost


@on_relay()
async def test_slow_raw_reader_holds_its_window_only(relay: SmallRelay) -> None:
    call, sender = await begin(relay, CONNECT)
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    sender.transport.pause_reading()
    call.answer(b"x" * 2_000_000, end=False)
    await settle()
    assert call.unsent_bytes > 1_700_000
    sender.transport.resume_reading()
    await asyncio.sleep(1)
    assert sender.received.endswith(b"x" * 2_000_000)


@on_relay()
async def test_answers_are_not_mixed_up_between_senders(relay: SmallRelay) -> None:
    node = relay.attach_node()
    first, second = relay.connect(), relay.connect()
    first.send(get(b"/first"))
    second.send(get(b"/second"))
    await settle()
    by_path = {call.head.split()[1]: call for call in node.calls}
    first.transport.abort()
    await settle()
    by_path[b"/first"].answer(reply(b"first"))
    by_path[b"/second"].answer(reply(b"second"))
    await settle()
    assert read(bytes(second.received))[1] == b"second"


@on_relay()
async def test_a_call_that_memory_ended_is_not_said_to_have_never_been_made(relay: SmallRelay) -> None:
    relay.attach_node()
    sender = relay.connect()
    sender.send(get())
    await settle()
    (listener,) = relay.registry.listeners
    (stream,) = listener.link.session.streams.values()
    stream.cut(StreamReset("memory was needed", ErrorCode.BUDGET_EXCEEDED))
    await settle()
    answer = sender.take()
    assert answer.startswith(b"HTTP/1.1 502 ")
    assert b"short of memory" in answer


@on_relay()
async def test_an_unfinished_head_of_a_response_counts_as_held(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.answer(
        b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: " + b"a" * 20_000,
        end=False,
    )
    await settle()
    assert relay.budget.held_bytes > 20_000
    call.answer(b"\r\n\r\nhel", end=False)
    await settle()
    assert relay.budget.held_bytes < 100
    call.answer(b"lo")
    await settle()
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_a_head_of_a_response_larger_than_the_window_comes_through(relay: SmallRelay) -> None:
    call, sender = await begin(relay, window_bytes=16_384)
    call.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\nX: " + b"a" * 25_000 + b"\r\n\r\n" + b"x" * 60_000)
    await settle()
    assert read(sender.take())[1] == b"x" * 60_000
