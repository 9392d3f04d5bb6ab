import asyncio

from relay.senders.connection import MAX_REFUSALS
from relay.senders.transport_flow import LINGER_SECONDS
from tests.relay.senders.test_connection import SMUGGLED, answering, relay_answer
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle


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
async def test_an_answer_of_the_relay_comes_behind_all_that_the_node_sent(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    hints = b"HTTP/1.1 100 Continue\r\n" + b"".join(b"Link: </%d%b>\r\n" % (n, b"a" * 900) for n in range(20))
    node.script = lambda call: call.answer(hints + b"\r\nno response\r\n\r\n") if call.stream.writable else None
    sender.send(get())
    await settle()
    taken = sender.take()
    assert taken.startswith(b"HTTP/1.1 100 ")
    assert relay_answer(taken.partition(b"\r\n\r\n")[2])[0].status == 502
    node.script = answering(b"next")
    sender.send(get())
    await settle()
    assert sender.take().startswith(b"HTTP/1.1 200 OK\r\n")
