import asyncio

from relay.links.listeners import Listener
from tests.relay.calls.test_exchange import begin, read
from tests.support.small_relay import Sender, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.link_stream import SKIPPING_BYTES


@on_relay()
async def test_content_in_large_chunks_is_framed_as_it_came(relay: SmallRelay) -> None:
    chunk = b"5000\r\n" + b"x" * 0x5000 + b"\r\n"
    call, _ = await begin(relay, get(b"/", b"Transfer-Encoding: chunked", method=b"PUT") + chunk + b"0\r\n\r\n")
    assert call.content == chunk + b"0\r\n\r\n"
    assert not call.ended


@on_relay()
async def test_trailers_in_the_relays_own_names_end_there(relay: SmallRelay) -> None:
    head = get(b"/", b"Transfer-Encoding: chunked", method=b"POST")
    call, _ = await begin(relay, head + b"0\r\nTrunkline-Request-Id: forged\r\nT: u\r\n\r\n")
    assert call.content == b"0\r\nT: u\r\n\r\n"


@on_relay()
async def test_a_call_that_crosses_the_nodes_goodbye_was_never_taken(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    node.link.go_away()
    await settle()
    head, content, _, _ = read(sender.take())
    assert (head.status, node.calls) == (502, [])
    assert b"just leaving" in content
    assert b"error=destination_unavailable" in (head.get(b"proxy-status") or b"")


@on_relay()
async def test_listener_that_does_not_take_the_stream_is_silent(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    node.link._transport.pause_reading()
    await asyncio.sleep(0.1)
    sender.send(get())
    await asyncio.sleep(relay.limits.listener_seconds - 1)
    assert not sender.received
    await asyncio.sleep(2)
    head, content, _, _ = read(bytes(sender.received))
    assert head.status == 504
    assert b"NODE_TIMEOUT" in content
    assert relay.metric("deadlines_total", deadline="listener") == 1


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_calls_that_were_given_up_leave_nothing_on_a_link_that_is_not_read(relay: SmallRelay) -> None:
    node = relay.attach_node()
    (listener,) = relay.registry.listeners
    link = listener.link
    node.pause_reading()
    for _ in range(8):
        relay.connect().send(get(b"/", b"Content-Length: 1000000", method=b"PUT") + b"x" * 100_000)
    await settle()
    for _ in range(100):
        sender = relay.connect()
        sender.send(get(b"/", *[b"X-%d: " % number + b"y" * 6000 for number in range(5)]))
        await settle()
        sender.transport.abort()
    await settle()
    assert link.streams == 8
    assert sum(map(len, link.session._outgoing)) < SKIPPING_BYTES + 40_000
    waits = relay.connect()
    waits.send(get())
    node.resume_reading()
    await settle()
    assert node.calls[-1].head.startswith(b"GET / ")


@on_relay()
async def test_node_that_never_ends_its_stream_is_reset(relay: SmallRelay) -> None:
    call, sender = await begin(relay)
    call.answer(reply(b"hello"), end=False)
    await settle()
    assert sender.received.endswith(b"hello")
    assert call.ended
    await asyncio.sleep(6)
    assert call.lost is not None
    assert call.node.link.streams == 0


@on_relay(max_streams_per_link=2400)
async def test_a_thousand_calls_at_once_on_one_link(relay: SmallRelay) -> None:
    node = relay.attach_node()
    senders = [relay.connect() for _ in range(1000)]
    for number, sender in enumerate(senders):
        sender.send(get(b"/%d" % number))
    await asyncio.sleep(2)
    assert len(node.calls) == 1000
    for call in reversed(node.calls):
        call.answer(reply(call.head.split()[1]))
    await asyncio.sleep(1)
    for number, sender in enumerate(senders):
        assert read(bytes(sender.received))[1] == b"/%d" % number


@on_relay(max_streams_per_link=2)
async def test_streams_of_a_link_are_bounded(relay: SmallRelay) -> None:
    relay.attach_node()
    senders = [relay.connect() for _ in range(3)]
    for sender in senders:
        sender.send(get())
    await settle()
    head, content, _, _ = read(bytes(senders[2].received))
    assert head.status == 429
    assert head.get(b"retry-after") == b"1"
    assert b"RESOURCE_EXHAUSTED" in content


@on_relay()
async def test_waiting_calls_fail_with_their_link(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.link._transport.pause_reading()
    senders = [relay.connect() for _ in range(300)]
    for sender in senders:
        sender.send(get())
    await settle()
    node.link.abort()
    await settle()
    assert {read(bytes(sender.received))[0].status for sender in senders} == {502}


async def waiting(relay: SmallRelay, count: int) -> tuple[Listener, list[Sender]]:
    """Calls to a node that takes no stream, more by so many than may be opened; those come last."""
    node = relay.attach_node()
    node.pause_reading()
    senders = [relay.connect() for _ in range(240 + count)]
    for sender in senders:
        sender.send(get())
    await settle()
    (listener,) = relay.registry.listeners
    return listener, senders


@on_relay()
async def test_a_call_that_is_given_up_before_its_stream_could_be_opened_leaves_nothing_behind(
    relay: SmallRelay,
) -> None:
    listener, senders = await waiting(relay, 3)
    assert len(listener.link._openers or ()) == 3
    senders[-2].transport.abort()
    await settle()
    assert len(listener.link._openers or ()) == 2


@on_relay()
async def test_the_others_that_wait_are_opened_in_their_order(relay: SmallRelay) -> None:
    listener, senders = await waiting(relay, 3)
    senders[-2].transport.abort()
    await settle()
    for sender in senders[:2]:
        sender.transport.abort()
    await settle()
    assert len(listener.link._openers or ()) == 0
    assert relay.calls_open == 240


def answered(sender: Sender) -> int | None:
    """The status that a sender was answered, if it was."""
    return read(bytes(sender.received))[0].status if sender.received else None


async def calls_of(relay: SmallRelay, count: int, token: bytes) -> list[Sender]:
    senders = [relay.connect() for _ in range(count)]
    for sender in senders:
        sender.send(get(token=token))
    await settle()
    return senders


@on_relay(max_streams_per_link=32)
async def test_one_sender_has_half_of_a_link_at_most_and_nobody_what_is_for_the_control_plane(
    relay: SmallRelay,
) -> None:
    node = relay.attach_node()
    first = await calls_of(relay, 32, b"good")
    assert [answered(sender) for sender in first] == [None] * 16 + [429] * 16
    second = await calls_of(relay, 32, b"workspace")
    assert [answered(sender) for sender in second].count(None) == 8
    for call in node.calls[:16]:
        call.answer(reply())
    await settle()
    again = await calls_of(relay, 16, b"workspace")
    assert [answered(sender) for sender in again].count(None) == 8
    await calls_of(relay, 16, b"good")
    assert node.link.streams == 24
    for token in (b"good", b"workspace"):
        [late] = await calls_of(relay, 1, token)
        assert answered(late) == 429
    own = await calls_of(relay, 9, b"control-plane")
    assert [answered(sender) for sender in own] == [None] * 8 + [429]


@on_relay(max_streams_per_link=32)
async def test_a_trust_document_reaches_a_node_whose_link_is_full_of_calls(relay: SmallRelay) -> None:
    node = relay.attach_node()
    for token in (b"good", b"workspace") * 4:
        await calls_of(relay, 16, token)
    relay.registry.push_trust("jws-1")
    await settle()
    assert b"jws-1" in bytes(node.calls[-1].received)


@on_relay()
async def test_the_control_plane_does_not_wait_behind_calls_that_a_node_has_not_taken(relay: SmallRelay) -> None:
    listener, _ = await waiting(relay, 3)
    before = listener.link.streams
    await calls_of(relay, 1, b"control-plane")
    assert listener.link.streams == before + 1
    assert len(listener.link._openers or ()) == 3
