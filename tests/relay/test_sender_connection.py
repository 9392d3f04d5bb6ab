import asyncio
import base64
import json
from collections.abc import Iterator

import pytest

from relay.credentials import Refusal
from relay.sender_connection import LINGER_SECONDS, MAX_REFUSALS
from relay.write_stall import WriteStall
from tests.support.small_relay import HOST, SUFFIX, NodeCall, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.heads import parse_request_head, parse_response_head
from trunkline.channel.memory import Split
from trunkline.channel.outcomes import Outcome

GATEWAY = b"/v1/workspaces/finance/nodes/vm-1"


def answering(content: bytes = b"hello", *fields: bytes, status: bytes = b"200 OK"):
    """A script that answers every request once its head is there."""

    def script(call: NodeCall) -> None:
        if b"\r\n\r\n" in call.received and call.stream.writable:
            call.answer(reply(content, *fields, status=status))

    return script


def relay_answer(raw: bytes, method: bytes = b"GET"):
    """Status, fields and document of an answer that the relay made itself."""
    head, _, content = raw.partition(b"\r\n\r\n")
    parsed = parse_response_head(head + b"\r\n\r\n", request_method=method)
    assert (parsed.get(b"proxy-status") or b"").startswith(b"trunkline-relay; error=")
    assert parsed.get(b"trunkline-request-id")
    return parsed, json.loads(content)


@on_relay()
async def test_kept_alive_calls_one_after_the_other(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    for number in range(5):
        sender.send(get(b"/%d" % number))
        await settle()
        call = node.calls[number]
        assert call.head.startswith(b"GET /%d HTTP/1.1\r\nHost: %b\r\n" % (number, HOST))
        assert not call.ended
        call.answer(reply(b"%d" % number, b"Date: x"))
        await settle()
        assert (
            sender.take() == b"HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.1 trunkline\r\nContent-Length: 1\r\n\r\n%d" % number
        )
        assert call.ended
        assert call.lost is None
    assert relay.metric("calls_total", door="proxy", outcome="forwarded") == 5
    assert relay.metric("body_bytes_total", direction="to_sender") == 5
    assert node.link.streams == 0


@on_relay()
async def test_any_split_of_both_sides_gives_the_same(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    whole, bytewise = relay.connect(), relay.connect(split=Split.BYTES)
    request = get(b"/a", b"Content-Length: 3", method=b"PUT") + b"abc"
    for sender in (whole, bytewise):
        sender.send(request * 3)
    await settle()
    assert whole.received.count(b"hello") == 3
    assert whole.take() == bytewise.take()
    assert {call.content for call in node.calls} == {b"abc"}


@on_relay()
async def test_pipelined_calls_never_overlap(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/0") + get(b"/1") + get(b"/2"))
    for number in range(3):
        await settle()
        assert len(node.calls) == number + 1
        node.calls[number].answer(reply(b"%d" % number))
    await settle()
    assert sender.received.endswith(b"\r\n\r\n2")
    assert sender.received.count(b"HTTP/1.1 200 OK") == 3


@on_relay()
async def test_pipelining_is_bounded(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get() + get() * 20_000)
    await settle()
    assert len(node.calls) == 1
    assert sender.transport.get_write_buffer_size() > 500_000
    node.script = answering()
    node.calls[0].answer(reply())
    await asyncio.sleep(5)
    assert len(node.calls) == 20_001
    assert sender.received.count(b"hello") == 20_001


@on_relay()
async def test_who_does_not_wait_for_a_refusal_has_to_reconnect(relay: SmallRelay) -> None:
    sender = relay.connect()
    sender.send(get(token=b"bad") * 3000)
    await asyncio.sleep(LINGER_SECONDS + 1)
    assert sender.received.count(b"HTTP/1.1 407 ") == 1
    assert b"\r\nConnection: close\r\n" in sender.received
    assert sender.lost


@on_relay()
async def test_nothing_but_refusals_end_with_the_connection(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering()
    for _ in range(MAX_REFUSALS - 1):
        sender.send(get(token=b"bad"))
        await settle()
    sender.send(get())  # from here on the count begins anew
    await settle()
    for number in range(MAX_REFUSALS):
        assert not sender.ended, number
        sender.send(get(token=b"bad"))
        await settle()
    assert sender.received.count(b"HTTP/1.1 407 ") == 2 * MAX_REFUSALS - 1
    assert sender.received.count(b"Connection: close") == 1
    await asyncio.sleep(LINGER_SECONDS + 1)
    assert sender.lost


@on_relay()
async def test_answers_that_nobody_takes_do_not_pile_up(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering(b"x" * 10_000)
    sender.transport.pause_reading()
    for _ in range(50):
        sender.send(get() * 100)
        await settle()
    (connection,) = relay.port._connections
    assert connection._transport.get_write_buffer_size() < 200_000
    sender.transport.resume_reading()
    await asyncio.sleep(5)
    assert sender.received.count(b"HTTP/1.1 ") == 5000
    assert not sender.lost
    sender.transport.pause_reading()
    sender.send(get() * 5000)
    await asyncio.sleep(200)
    assert not relay.port._connections
    assert relay.metric("deadlines_total", deadline="write_stall") == 1


@pytest.mark.parametrize(
    ("request_bytes", "status", "error_code"),
    [
        (b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\n\r\n" % (HOST, HOST), 407, "UNAUTHENTICATED"),
        (get(token=b"bad"), 407, "UNAUTHENTICATED"),
        (get(host=b"vm-9.finance.trunk.internal"), 502, "NODE_UNREACHABLE"),
        (get(host=b"example.com"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (b"GET %b/ HTTP/1.1\r\nHost: relay\r\n\r\n" % GATEWAY, 401, "UNAUTHENTICATED"),
        (b"GET / HTTP/1.1\r\nHost: relay\r\n\r\n", 404, "RESOURCE_DOES_NOT_EXIST"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "NOT_IMPLEMENTED"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "NOT_IMPLEMENTED"),
        (b"GET /v1/link HTTP/1.1\r\nHost: a\r\n\r\n", 426, "BAD_REQUEST"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "BAD_REQUEST"),
        (b"\x00" * 100, 400, "BAD_REQUEST"),
        (b"A" * 40_000, 431, "BAD_REQUEST"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, "BAD_REQUEST"),
    ],
)
@on_relay()
async def test_refusals(relay: SmallRelay, request_bytes: bytes, status: int, error_code: str) -> None:
    relay.attach_node()
    sender = relay.connect()
    sender.send(request_bytes)
    await settle()
    head, document = relay_answer(sender.take())
    assert (head.status, document["error_code"]) == (status, error_code)
    assert (head.get(b"proxy-authenticate") is not None) == (status == 407)
    assert (head.get(b"www-authenticate") is not None) == (status == 401)
    if not head.keep_alive:
        sender.send(get())
        await asyncio.sleep(3)
        assert sender.lost
        assert not sender.received


SMUGGLED = get(b"/smuggled")
TWO_FRAMINGS = {
    "cl_te": (b"Content-Length: 4", b"Transfer-Encoding: chunked"),
    "te_cl": (b"Transfer-Encoding: chunked", b"Content-Length: 4"),
    "te_te": (b"Transfer-Encoding: chunked", b"Transfer-encoding: identity"),
    "te_list": (b"Transfer-Encoding: identity, chunked",),
    "cl_cl": (b"Content-Length: 0", b"Content-Length: %d" % len(SMUGGLED)),
    "fold": (b"X: y", b" Content-Length: 5"),
    "bare_lf": (b"X: y\nContent-Length: 5",),
    "bare_cr": (b"X: y\rContent-Length: 5",),
    "nul": (b"X: y\0",),
    "space_before_colon": (b"Content-Length : 5",),
    "two_hosts": (b"Host: " + HOST,),
}


@pytest.mark.parametrize("fields", TWO_FRAMINGS.values(), ids=TWO_FRAMINGS.keys())
@on_relay()
async def test_smuggling_in_heads_ends_the_connection(relay: SmallRelay, fields) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/first", *fields, method=b"POST") + b"0\r\n\r\n" + SMUGGLED)
    await asyncio.sleep(3)
    head, _ = relay_answer(bytes(sender.received))
    assert head.status in (400, 501)
    assert sender.received.count(b"HTTP/1.1 ") == 1
    assert node.calls == []
    assert sender.lost


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
async def test_bytes_behind_a_body_are_the_next_request_only(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/a", b"Content-Length: 2", method=b"POST") + b"xy" + get(b"/b"))
    await settle()
    assert [call.head.split()[1] for call in node.calls] == [b"/a", b"/b"]
    assert node.calls[0].content == b"xy"


@on_relay()
async def test_gateway(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering(b"hello", b"Set-Cookie: a")
    sender = relay.connect()
    sender.send(b"GET %b:4040/x?y HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer good\r\n\r\n" % GATEWAY)
    await settle()
    head = parse_request_head(node.calls[0].head + b"\r\n\r\n")
    assert (head.target, head.host, head.port) == (b"/x?y", HOST, 4040)
    assert head.get(b"authorization") is None
    assert head.get(b"proxy-authorization") == b"Bearer good"
    assert head.get(b"trunkline-request-id") == b"t-01"
    assert b"Set-Cookie" not in sender.take()
    assert relay.metric("calls_total", door="gateway", outcome="forwarded") == 1


@on_relay()
async def test_basic_and_workspace_tokens(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    basic = base64.b64encode(b"anyone:workspace")
    sender.send(b"GET http://%b/ HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Basic %b\r\n\r\n" % (HOST, HOST, basic))
    await settle()
    head = parse_request_head(node.calls[0].head + b"\r\n\r\n")
    assert head.get(b"proxy-authorization") == b"Bearer the-assertion"
    assert b"workspace\r\n" not in node.calls[0].received
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_http_1_0_closes(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(b"GET %b/ HTTP/1.0\r\nAuthorization: Bearer good\r\n\r\n" % GATEWAY)
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Connection: close\r\n" in sender.received
    assert sender.lost


@on_relay()
async def test_connection_close_is_heeded(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get(b"/", b"Connection: close") + get(b"/second"))
    await asyncio.sleep(3)
    assert sender.received.count(b"HTTP/1.1 200 OK") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_sender_gone_resets_the_stream(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    sender.transport.abort()
    await settle()
    assert node.calls[0].lost is not None
    assert relay.metric("calls_total", door="proxy", outcome="sender_lost") == 1


@on_relay()
async def test_sender_that_closes_resets_the_stream(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    sender.transport.close()
    await settle()
    assert node.calls[0].lost is not None


@on_relay()
async def test_idle_connection_is_closed(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.script = answering()
    sender = relay.connect()
    sender.send(get())
    await asyncio.sleep(relay.limits.idle_seconds - 1)
    assert not sender.lost
    await asyncio.sleep(2)
    assert sender.lost
    assert relay.metric("deadlines_total", deadline="idle") == 1


@on_relay()
async def test_silent_connection_is_closed(relay: SmallRelay) -> None:
    sender = relay.connect()
    await asyncio.sleep(relay.limits.head_seconds + 1)
    assert sender.lost
    assert not sender.received


@on_relay()
async def test_slow_head_is_refused(relay: SmallRelay) -> None:
    sender = relay.connect()
    for byte in get(b"/" + b"a" * 100):
        if sender.transport.is_closing():
            break
        sender.send(bytes([byte]))
        await asyncio.sleep(0.5)
    head, _ = relay_answer(bytes(sender.received))
    assert head.status == 408
    assert relay.metric("deadlines_total", deadline="head") == 1
    assert relay.loop.time() < relay.limits.head_seconds + 5


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
async def test_content_is_held_to_the_nodes_window(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.greedy = False
    sender.send(get(b"/", b"Content-Length: 10000000", method=b"PUT") + b"x" * 10_000_000)
    await asyncio.sleep(1)
    assert len(node.calls[0].received) == 65_536
    assert sender.transport.get_write_buffer_size() > 8_000_000


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
async def test_early_response_is_passed_and_then_the_connection_closes(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/", b"Content-Length: 1000", method=b"PUT") + b"part")
    await settle()
    node.calls[0].answer(reply(b"no", status=b"413 X"))
    await settle()
    assert b"Connection: close\r\n" in sender.received
    assert sender.received.endswith(b"no")
    sender.send(get(b"/smuggled") + b"x" * 2000)
    await asyncio.sleep(3)
    assert sender.lost
    assert len(node.calls) == 1
    assert sender.received.count(b"HTTP/1.1") == 1


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


@on_relay()
async def test_refused_content_is_not_taken_for_a_request(relay: SmallRelay) -> None:
    relay.attach_node()
    sender = relay.connect()
    sender.send(get(b"/", b"Content-Length: %d" % len(SMUGGLED), method=b"PUT", token=b"bad"))
    await settle()
    sender.send(SMUGGLED)
    await asyncio.sleep(3)
    head, _ = relay_answer(bytes(sender.received))
    assert (head.status, head.keep_alive) == (407, False)
    assert sender.lost


@on_relay()
async def test_upgrade_refused_with_a_request_behind_it(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/ws", b"Connection: upgrade", b"Upgrade: websocket") + SMUGGLED)
    await settle()
    assert len(node.calls) == 1
    node.calls[0].answer(reply(b"no", status=b"426 X"))
    await asyncio.sleep(3)
    assert b"Connection: close\r\n" in sender.received
    assert sender.received.count(b"HTTP/1.1") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_connect_refused_with_bytes_behind_it(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    connect = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
    sender.send(connect + SMUGGLED)
    await settle()
    node.calls[0].answer(reply(b"no", status=b"403 X"))
    await asyncio.sleep(3)
    assert sender.received.count(b"HTTP/1.1") == 1
    assert len(node.calls) == 1
    assert sender.lost


@on_relay()
async def test_slow_reader_holds_its_window_only(relay: SmallRelay) -> None:
    node = relay.attach_node()
    slow, quick = relay.connect(), relay.connect()
    slow.send(get(b"/big"))
    await settle()
    slow.transport.pause_reading()
    content = bytes(range(256)) * 40_000
    node.calls[0].answer(reply(content))
    await settle()
    assert node.calls[0].unsent_bytes > len(content) - 400_000
    node.script = answering()
    quick.send(get(b"/small"))
    await settle()
    assert quick.received.endswith(b"hello")
    slow.transport.resume_reading()
    await asyncio.sleep(1)
    assert slow.received.endswith(content)


@on_relay()
async def test_reader_that_takes_nothing_is_cut(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/big"))
    await settle()
    sender.transport.pause_reading()
    node.calls[0].answer(reply(b"x" * 1_000_000))
    await asyncio.sleep(relay.limits.write_stall_seconds + 2)
    assert node.calls[0].lost is not None
    assert relay.metric("deadlines_total", deadline="write_stall") == 1


@on_relay()
async def test_reader_that_takes_little_is_not_cut(relay: SmallRelay) -> None:
    sizes: Iterator[int] = iter([1000, 90_000, *range(80_000, 20_000, -10_000), *[20_000] * 5])
    cuts: list[float] = []

    class Transport(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return next(sizes)

        def abort(self) -> None:
            cuts.append(relay.loop.time())

    WriteStall(Transport(), relay.front, relay.limits.write_stall_seconds)
    await asyncio.sleep(2.5 * relay.limits.write_stall_seconds)
    assert not cuts
    await asyncio.sleep(relay.limits.write_stall_seconds)
    assert len(cuts) == 1


@on_relay()
async def test_two_hour_call_is_not_cut(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    silent = relay.connect()
    sender.send(get(b"/follow"))
    silent.send(get(b"/think"))
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    for _ in range(12):
        await asyncio.sleep(600)
        node.calls[0].answer(b"line\n", end=False)
    node.calls[0].answer(b"")
    node.calls[1].answer(reply(b"thought"))
    await settle()
    assert sender.received.count(b"line\n") == 12
    assert sender.received.endswith(b"0\r\n\r\n")
    assert silent.received.endswith(b"thought")


@on_relay()
async def test_drain_closes_idle_connections_and_finishes_calls(relay: SmallRelay) -> None:
    node = relay.attach_node()
    idle, busy, late = relay.connect(), relay.connect(), relay.connect()
    busy.send(get())
    late.send(get()[:-1])
    await settle()
    drain = relay.spawn(relay.port.drain(30))
    await settle()
    assert idle.lost
    assert not busy.lost
    node.calls[0].answer(reply())
    late.send(get()[-1:])
    await settle()
    assert b"Connection: close\r\n" in busy.received
    assert busy.received.endswith(b"hello")
    assert busy.lost
    head, document = relay_answer(bytes(late.received))
    assert (head.status, document["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
    assert head.get(b"retry-after") == b"1"
    assert await drain is True


@on_relay()
async def test_before_the_drain_calls_are_served_and_are_their_connections_last(relay: SmallRelay) -> None:
    node = relay.attach_node()
    idle = relay.connect()
    await settle()
    relay.port.announce_drain()
    fresh = relay.connect()
    await settle()
    for number, sender in enumerate((idle, fresh)):
        assert not sender.lost
        sender.send(get())
        await settle()
        node.calls[number].answer(reply())
        await settle()
        assert sender.received.startswith(b"HTTP/1.1 200 ")
        assert b"Connection: close\r\n" in sender.received
        assert sender.lost


@on_relay()
async def test_drain_ends_at_its_deadline(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    assert await relay.port.drain(5) is False
    await settle()
    assert sender.lost
    assert node.calls[0].lost is not None


@on_relay()
async def test_revocation_cuts_calls(relay: SmallRelay) -> None:
    node = relay.attach_node()
    waiting, streaming = relay.connect(), relay.connect()
    waiting.send(get())
    streaming.send(get())
    await settle()
    node.calls[1].answer(reply(b"x" * 100)[:-50], end=False)
    await settle()
    credential = relay.admission.credential("good")
    relay.uses.cut(lambda _, used: Refusal(Outcome.REVOKED, "revoked") if used is credential else None)
    await settle()
    head, _ = relay_answer(bytes(waiting.received))
    assert head.status == 407
    assert streaming.error is not None
    assert all(call.lost is not None for call in node.calls)


@on_relay()
async def test_names_of_other_suffixes_are_refused(relay: SmallRelay) -> None:
    sender = relay.connect()
    sender.send(get(host=b"vm-1.finance." + SUFFIX.encode() + b".evil"))
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 404 ")


@on_relay()
async def test_heads_that_come_again_in_any_order_are_decided_on_each_time(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering()
    for path in (b"/a", b"/a", b"/a", b"/b", b"/a", b"/b", b"/b", b"/b", b"/a"):
        sender.send(get(path))
        await settle()
        assert sender.take().endswith(b"hello")
        assert node.calls[-1].head.startswith(b"GET %b " % path)
    node.link.abort()
    await settle()
    sender.send(get(b"/a"))
    await settle()
    assert relay_answer(sender.take())[0].status == 502
    assert len(node.calls) == 9


@on_relay()
async def test_calls_whose_heads_differ_are_admitted_and_reach_the_node_each_with_its_own(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.script = answering()
    for number in range(4):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
        assert b"\r\nTraceparent: %d\r\n" % number in node.calls[number].head
        assert sender.take().endswith(b"\r\n\r\nhello")
    assert len(relay.front.heads.by_connection.whole.young) <= 1


@on_relay()
async def test_a_head_like_one_that_was_granted_is_granted_anew(relay: SmallRelay) -> None:
    first, sender = relay.attach_node(), relay.connect()
    first.script = answering(b"first")
    for number in range(2):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
    assert sender.take().count(b"first") == 2
    second = relay.attach_node(sequence=2)
    second.script = answering(b"second")
    await settle()
    for number in range(2, 4):
        sender.send(get(b"/", b"Traceparent: %d" % number))
        await settle()
    assert sender.take().count(b"second") == 2
    kin = relay.front.heads.by_connection.find(get(b"/", b"Traceparent: 5"))
    assert kin is not None
    assert kin.kin is not None
    assert kin.kin.grant is not None
    assert kin.kin.grant.listener is relay.registry.find("finance", "vm-1")
