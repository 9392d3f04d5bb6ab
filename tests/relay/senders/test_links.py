import asyncio
import json
from typing import Any

import pytest

from relay.links.listeners import Listener
from relay.senders.links import SenderLink, SenderStream
from relay.trust.credentials import Refusal
from tests.support.memory_transport import memory_pair
from tests.support.small_relay import HOST, Node, NodeCall, SmallRelay, listener_grant, on_relay, reply, settle
from trunkline.channel.errors import ChannelError
from trunkline.channel.heads import parse_response_head
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, LinkStream, Role
from trunkline.channel.outcomes import Outcome

CONNECT = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)


class Call:
    """A sender's end of a stream; takes everything at once unless told otherwise."""

    def __init__(self, greedy: bool = True) -> None:
        self.stream: LinkStream
        self.received = bytearray()
        self.ended = False
        self.lost: ChannelError | None = None
        self.greedy = greedy
        self._outgoing = bytearray()

    def data_received(self, data: bytes | memoryview) -> None:
        self.received += data
        if self.greedy:
            self.stream.consumed(len(data))

    def end_received(self) -> None:
        self.ended = True

    def window_opened(self) -> None:
        while self._outgoing and (room := self.stream.send_room_bytes):
            piece = bytes(self._outgoing[:room])
            del self._outgoing[:room]
            self.stream.write(piece)

    def stream_lost(self, error: ChannelError) -> None:
        self.lost = error

    def send(self, data: bytes) -> None:
        self._outgoing += data
        self.window_opened()

    @property
    def unsent_bytes(self) -> int:
        return len(self._outgoing)


class Owner:
    """The sender's owner of its link."""

    def __init__(self) -> None:
        self.lost = False

    def stream_offered(self, stream: LinkStream) -> None:
        return None

    def go_away_received(self, link: Link, code: Any) -> None:
        pass

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        self.lost = True


class Sender:
    """A sender's link to the relay."""

    def __init__(self, relay: SmallRelay, *, window_bytes: int = 65_536, compact: bool = True) -> None:
        self.owner = Owner()
        limits = Limits(initial_window_bytes=window_bytes)
        options: dict[str, Any] = {"loop": relay.loop, "limits": limits, "send_window_bytes": window_bytes}
        options |= {"compact": compact, "keepalive_seconds": None}
        self.link = Link(Role.CLIENT, self.owner, **options)
        self.relay_side = SenderLink(relay.front, relay.registry)
        self.relay_side.link = Link(Role.SERVER, self.relay_side, **options)
        grant = relay.admission.admit_link("good", None)
        assert relay.registry.attach_sender(self.relay_side, grant) is None  # type: ignore[arg-type]
        self.ends = memory_pair(relay.loop)
        self.ends[0].start(self.link)
        self.ends[1].start(self.relay_side.link)

    def call(self, data: bytes = b"", **options: Any) -> Call:
        call = Call(**options)
        call.stream = self.link.open(call)
        call.send(data)
        return call


def request(path: bytes = b"/", *fields: bytes, method: bytes = b"GET", token: bytes = b"good") -> bytes:
    lines = [method + b" " + path + b" HTTP/1.1", b"Host: " + HOST, b"Proxy-Authorization: Bearer " + token, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


@pytest.mark.parametrize("compact", [True, False])
@on_relay()
async def test_each_stream_carries_one_call(relay: SmallRelay, compact: bool) -> None:
    node, sender = relay.attach_node(), Sender(relay, compact=compact)
    calls = [sender.call(request(b"/%d" % number)) for number in range(3)]
    await settle()
    for at_node in node.calls:
        at_node.answer(reply(at_node.head.split()[1], b"Date: x"))
    await settle()
    for number, call in enumerate(calls):
        expected = b"HTTP/1.1 200 OK\r\nDate: x\r\nVia: 1.1 trunkline\r\nContent-Length: 2\r\nConnection: close\r\n\r\n"
        assert bytes(call.received) == expected + b"/%d" % number
        assert call.ended
        assert call.lost is None
        call.stream.end()
    await settle()
    assert sender.link.streams == 0
    assert node.link.streams == 0
    assert relay.metric("calls_total", door="link", outcome="forwarded") == 3
    sender.ends[0].abort()


@on_relay()
async def test_head_and_content_in_any_split(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    data = request(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + b"3\r\nabc\r\n0\r\n\r\n"
    call = sender.call()
    for byte in data:
        call.send(bytes([byte]))
        await settle()
    assert node.calls[0].content == b"".join(b"1\r\n%c\r\n" % byte for byte in b"abc") + b"0\r\n\r\n"
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    sender.ends[0].abort()


@pytest.mark.parametrize(
    ("data", "status", "error_code"),
    [
        (request(token=b"bad"), 401, "UNAUTHENTICATED"),
        (b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST, 401, "UNAUTHENTICATED"),
        (request().replace(HOST, b"link.internal"), 404, "RESOURCE_DOES_NOT_EXIST"),
        (request().replace(HOST, b"vm-9.finance.trunk.internal"), 502, "NODE_UNREACHABLE"),
        (request(b"http://" + HOST + b"/"), 400, "BAD_REQUEST"),
        (request() + request(), 400, "BAD_REQUEST"),
        (b"\x00\x01\x02", 400, "BAD_REQUEST"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "BAD_REQUEST"),
        (request(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + b"1;x\r\n", 400, "BAD_REQUEST"),
        (request(b"/", b"Content-Length: 1", method=b"PUT") + b"abc", 400, "BAD_REQUEST"),
    ],
)
@on_relay()
async def test_refusals(relay: SmallRelay, data: bytes, status: int, error_code: str) -> None:
    relay.attach_node()
    sender = Sender(relay)
    call = sender.call(data)
    await settle()
    head, _, content = bytes(call.received).partition(b"\r\n\r\n")
    parsed = parse_response_head(head + b"\r\n\r\n", request_method=b"GET")
    assert (parsed.status, json.loads(content)["error_code"]) == (status, error_code)
    assert parsed.get(b"proxy-status")
    assert call.ended
    await asyncio.sleep(6)
    assert sender.link.streams == 0
    sender.ends[0].abort()


@on_relay()
async def test_a_stream_that_ends_inside_its_head_is_answered_at_once(relay: SmallRelay) -> None:
    sender = Sender(relay)
    call = sender.call(request()[:20])
    call.stream.end()
    await settle()
    assert call.received.startswith(b"HTTP/1.1 400 ")
    assert call.ended
    assert sender.link.streams == 0
    sender.ends[0].abort()


@on_relay()
async def test_reset_by_the_sender_cancels_the_call(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(request())
    await settle()
    call.stream.reset()
    await settle()
    assert node.calls[0].lost is not None
    call = sender.call(request())
    await settle()
    sender.link.abort()
    await settle()
    assert node.calls[1].lost is not None


@on_relay()
async def test_response_cut_short_resets_the_stream(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(request())
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\nabc", end=False)
    await settle()
    node.calls[0].stream.reset()
    await settle()
    assert call.lost is not None
    assert not call.ended
    sender.ends[0].abort()


@on_relay()
async def test_connect_with_half_close_in_either_order(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    for number, sender_first in enumerate((True, False)):
        call = sender.call(CONNECT)
        await settle()
        at_node = node.calls[number]
        at_node.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
        await settle()
        call.send(b"up")
        await settle()
        if sender_first:
            call.stream.end()
            await settle()
            assert at_node.ended
            at_node.answer(b"down")
        else:
            at_node.answer(b"down")
            await settle()
            assert call.ended
            call.send(b"more")
            await settle()
            assert at_node.content == b"upmore"
            call.stream.end()
        await settle()
        assert call.received.endswith(b"\r\n\r\ndown")
        assert call.lost is None
        assert at_node.lost is None
    assert (sender.link.streams, node.link.streams) == (0, 0)
    sender.ends[0].abort()


async def tunnel(relay: SmallRelay, sender: Sender, node: Node) -> tuple[Call, NodeCall]:
    call = sender.call(
        b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
    )
    await settle()
    at_node = node.calls[0]
    at_node.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    return call, at_node


@pytest.mark.parametrize("greedy", [True, False])
@on_relay()
async def test_a_link_that_closes_in_good_order_takes_no_ended_raw_bytes_back(relay: SmallRelay, greedy: bool) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call, at_node = await tunnel(relay, sender, node)
    node.greedy = greedy
    content = b"x" * 100_000
    call.send(content)
    while call.unsent_bytes:
        await settle()
    call.stream.end()
    sender.link.close()
    await asyncio.sleep(relay.limits.stream_stall_seconds / 2)
    while not greedy and at_node.held_bytes:
        at_node.take()
        await settle()
    assert at_node.content == content
    assert at_node.ended
    assert at_node.lost is None
    at_node.answer(b"nobody reads this")
    await settle()
    assert node.link.streams == 0


@pytest.mark.parametrize("in_order", [True, False])
@on_relay()
async def test_a_node_that_does_not_end_behind_a_link_is_reset(relay: SmallRelay, in_order: bool) -> None:
    """At once where the link has not been closed in good order."""
    node, sender = relay.attach_node(), Sender(relay)
    call, at_node = await tunnel(relay, sender, node)
    call.stream.end()
    await settle()
    if in_order:
        sender.link.close()
        await asyncio.sleep(relay.limits.stream_stall_seconds + 1)
    else:
        sender.link.abort()
        await settle()
    assert at_node.lost is not None


@on_relay()
async def test_raw_bytes_that_have_not_ended_are_cut_though_their_link_was_closed_in_good_order(
    relay: SmallRelay,
) -> None:
    """Else the node would take a part for the whole."""
    node, sender = relay.attach_node(), Sender(relay)
    call, at_node = await tunnel(relay, sender, node)
    call.send(b"half")
    await settle()
    sender.link.close()
    await settle()
    assert at_node.content == b"half"
    assert at_node.lost is not None
    assert not at_node.ended


@on_relay()
async def test_a_call_that_is_given_up_is_cut_behind_the_end_of_its_raw_bytes(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call, at_node = await tunnel(relay, sender, node)
    call.stream.end()
    sender.link.go_away()
    await settle()
    call.stream.reset()
    await settle()
    assert at_node.lost is not None
    sender.ends[0].abort()


@pytest.mark.parametrize("with_its_link", [True, False])
@on_relay()
async def test_a_slow_taker_gets_all_of_a_node_that_has_ended_and_gone(relay: SmallRelay, with_its_link: bool) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=1024)
    call, at_node = await tunnel(relay, sender, node)
    call.greedy = False
    at_node.answer(b"y" * 60_000)
    await settle()
    if with_its_link:
        node.link.close()
    else:
        at_node.stream.reset()
    await asyncio.sleep(relay.limits.stream_stall_seconds / 2)
    call.greedy = True
    call.stream.consumed(call.stream.unconsumed_bytes)
    await settle()
    assert call.received.endswith(b"\r\n\r\n" + b"y" * 60_000)
    assert call.ended
    assert call.lost is None
    call.stream.end()
    await settle()
    assert sender.link.streams == 0
    sender.ends[0].abort()


@on_relay()
async def test_tunnel_that_is_ended_and_reset_at_once_is_given_up(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(
        b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
    )
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    call.stream.end()
    call.stream.reset()
    await settle()
    assert node.calls[0].lost is not None
    assert relay.calls_open == 0
    sender.ends[0].abort()


@pytest.mark.parametrize("sender_first", [True, False])
@on_relay()
async def test_tunnel_whose_node_has_ended_and_takes_no_more_is_given_up(relay: SmallRelay, sender_first: bool) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    node.greedy = False
    call = sender.call(CONNECT)
    await settle()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    if not sender_first:
        node.calls[0].stream.end()
        await settle()
    call.send(b"x" * 65_536)
    await settle()
    call.stream.end()
    await settle()
    if sender_first:
        node.calls[0].stream.end()
    await asyncio.sleep(relay.limits.stream_stall_seconds - 1)
    assert relay.calls_open == 1
    await asyncio.sleep(2)
    assert node.calls[0].lost is not None
    assert relay.calls_open == 0
    assert not any(isinstance(watched, SenderStream) for watched in relay.deadlines._watched)
    sender.ends[0].abort()


@on_relay()
async def test_slow_sender_holds_its_own_window_only(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    slow, quick = sender.call(request(), greedy=False), sender.call(request())
    await settle()
    content = b"x" * 1_000_000
    for at_node in node.calls:
        at_node.answer(reply(content))
    await asyncio.sleep(1)
    assert quick.received.endswith(content)
    assert len(slow.received) <= 65_536
    assert node.calls[0].unsent_bytes > 800_000
    slow.greedy = True
    slow.stream.consumed(len(slow.received))
    await asyncio.sleep(1)
    assert slow.received.endswith(content)
    sender.ends[0].abort()


@on_relay()
async def test_content_is_held_to_the_nodes_window(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    node.greedy = False
    call = sender.call(request(b"/", b"Content-Length: 1000000", method=b"PUT") + b"x" * 1_000_000)
    await asyncio.sleep(1)
    assert len(node.calls[0].received) == 65_536
    assert call.unsent_bytes > 800_000
    node.greedy = True
    node.calls[0].take()
    await asyncio.sleep(1)
    assert node.calls[0].content == b"x" * 1_000_000
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    sender.ends[0].abort()


@on_relay()
async def test_head_that_does_not_come_is_a_408(relay: SmallRelay) -> None:
    sender = Sender(relay)
    call = sender.call(b"GET / HT")
    await asyncio.sleep(relay.limits.head_seconds + 1)
    assert call.received.startswith(b"HTTP/1.1 408 ")
    assert call.ended
    await asyncio.sleep(6)
    assert sender.link.streams == 0
    sender.ends[0].abort()


@on_relay()
async def test_slow_content_is_a_408_and_idle_answers_are_not(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    slow = sender.call(request(b"/slow", b"Content-Length: 1000", method=b"PUT") + b"x")
    waiting = sender.call(request(b"/wait", b"Content-Length: 3", b"Expect: 100-continue", method=b"PUT"))
    await asyncio.sleep(6)
    assert slow.received.startswith(b"HTTP/1.1 408 ")
    assert node.calls[0].lost is not None
    assert relay.metric("deadlines_total", deadline="body_rate") == 1
    await asyncio.sleep(3600)
    waiting.send(b"abc")
    await settle()
    node.calls[1].answer(reply())
    await settle()
    assert waiting.received.endswith(b"hello")
    sender.ends[0].abort()


@pytest.mark.parametrize("fields", [(), (b"Content-Length: 3",)])
@on_relay()
async def test_listener_that_does_not_take_the_stream_is_silent(relay: SmallRelay, fields) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    node.link._transport.pause_reading()
    await asyncio.sleep(0.1)
    call = sender.call(request(b"/", *fields, method=b"PUT") + (b"abc" if fields else b""))
    await asyncio.sleep(relay.limits.listener_seconds + 1)
    assert call.received.startswith(b"HTTP/1.1 504 ")
    sender.ends[0].abort()


@on_relay()
async def test_drain_and_revocation(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(request())
    await settle()
    relay.front.draining = True
    late = sender.call(request())
    await settle()
    assert late.received.startswith(b"HTTP/1.1 503 ")
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    relay.uses.cut(lambda _, credential: Refusal(Outcome.REVOKED, "revoked"))
    await settle()
    assert sender.owner.lost


@on_relay()
async def test_a_relay_that_drains_says_goodbye_on_the_links_of_senders(relay: SmallRelay) -> None:
    sender = Sender(relay)
    relay.registry.announce_drain()
    await settle()
    assert sender.link.session.go_away_received
    assert not sender.owner.lost
    sender.ends[0].abort()


@on_relay(max_streams_per_link=2000)
async def test_a_thousand_calls_at_once(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    node.script = lambda call: call.answer(reply(call.head.split()[1]))
    calls: list[Call] = []

    def open_more() -> None:
        while len(calls) < 1000 and sender.link.openable:
            calls.append(sender.call(request(b"/%d" % len(calls))))
        if len(calls) < 1000:
            sender.link.call_when_openable(open_more)

    open_more()
    await asyncio.sleep(2)
    assert [bytes(call.received).rpartition(b"\r\n")[2] for call in calls] == [b"/%d" % n for n in range(1000)]
    sender.ends[0].abort()


@on_relay()
async def test_slow_taker_gets_the_last_bytes(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(request(), greedy=False)
    await settle()
    content = b"x" * 150_000
    node.calls[0].answer(reply(content))
    while not call.ended:
        await asyncio.sleep(relay.limits.stream_stall_seconds / 2)
        call.stream.consumed(call.stream.unconsumed_bytes)
        await settle()
    call.stream.end()
    await settle()
    assert call.received.endswith(content)
    assert call.lost is None
    assert sender.link.streams == 0
    sender.ends[0].abort()


@on_relay()
async def test_taker_of_nothing_is_cut(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    calls = [sender.call(request(), greedy=False) for _ in range(2)]
    await settle()
    node.calls[0].answer(reply(b"x" * 1_000_000))
    node.calls[1].answer(reply(b"x" * 100_000))
    await asyncio.sleep(relay.limits.stream_stall_seconds + 2)
    assert all(call.lost is not None for call in calls)
    assert (sender.link.streams, node.link.streams) == (0, 0)
    assert relay.metric("deadlines_total", deadline="write_stall") == 2
    sender.ends[0].abort()


@on_relay()
async def test_head_in_a_window_smaller_than_itself(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=1024)
    call = sender.call(request(b"/" + b"a" * 5000))
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    sender.ends[0].abort()


@on_relay()
async def test_an_unfinished_head_counts_as_held(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay)
    call = sender.call(request()[:-2] + b"X: " + b"a" * 20_000)
    session = sender.relay_side.link.session
    await settle()
    assert session.held_bytes() > 20_000
    call.send(b"\r\n\r\n")
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    assert session.held_bytes() < 100
    sender.ends[0].abort()


@on_relay(window_bytes=16_384)
async def test_a_head_larger_than_the_window_comes_through(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=16_384)
    call = sender.call(request(b"/", b"X: " + b"a" * 25_000))
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    sender.ends[0].abort()


@pytest.mark.parametrize("split", [False, True])
@on_relay()
async def test_content_behind_a_head_that_fills_a_small_window_comes_through(relay: SmallRelay, split: bool) -> None:
    """As of a link that was opened with Trunkline-Window: 1024; also where the head is known from before."""
    node, sender = relay.attach_node(), Sender(relay, window_bytes=1024)
    head = request(b"/", b"Content-Length: 3000", b"X: " + b"a" * 800, method=b"PUT")
    call = sender.call(head[:500] if split else head)
    if split:
        await settle()
        call.send(head[500:])
    call.send(b"x" * 3000)
    await settle()
    assert len(node.calls[0].content) == 3000
    sender.ends[0].abort()


@on_relay()
async def test_raw_bytes_behind_a_head_that_fills_a_small_window_come_through(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), Sender(relay, window_bytes=1024)
    upgrade = (b"Connection: Upgrade", b"Upgrade: x", b"X: " + b"a" * 750)
    for number in range(2):
        call = sender.call(request(b"/", *upgrade))
        await settle()
        node.calls[number].answer(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", end=False)
        await settle()
        call.send(b"x" * 3000)
        await settle()
        assert len(node.calls[number].content) == 3000
    sender.ends[0].abort()


@on_relay(max_links_per_workspace=2)
async def test_senders_keep_no_node_of_their_workspace_out(relay: SmallRelay) -> None:
    first, second = Sender(relay), Sender(relay)
    assert isinstance(await relay.claims.claim(listener_grant("1", "vm-1"), "instance", 1), Listener)
    await settle()
    assert (first.owner.lost, second.owner.lost) == (False, True)
    assert relay.registry.sender_links == 1
    first.link.abort()
