import asyncio

from tests.support.small_relay import Node, Sender, SmallRelay, get, on_relay, reply, settle

HEAD_SECONDS = 10.0


async def call(relay: SmallRelay, node: Node, sender: Sender) -> None:
    sender.send(get())
    await settle()
    node.calls[-1].answer(reply())
    await settle()


@on_relay()
async def test_on_whom_no_call_is_admitted_in_time_makes_room_the_oldest_first(relay: SmallRelay) -> None:
    older, newer = relay.connect(), relay.connect()
    for stranger in (older, newer):
        stranger.send(get(token=b"bad")[:-2])
    await settle()
    assert not relay.port.make_room()  # each has its time
    for stranger in (older, newer):
        stranger.send(b"\r\n")
    await asyncio.sleep(HEAD_SECONDS + 1)
    older.send(get(token=b"bad"))  # a call that is refused shows nothing
    await settle()
    assert relay.port.make_room()
    await settle()
    assert (older.lost, newer.lost) == (True, False)
    assert relay.port.make_room()
    await settle()
    assert newer.lost
    assert not relay.port.make_room()
    assert relay.port.connections == 0
    assert relay.metric("deadlines_total", deadline="room") == 2


@on_relay()
async def test_then_the_longest_idle_does_and_never_one_with_a_call_or_a_head(relay: SmallRelay) -> None:
    node = relay.attach_node()
    calling, reading, idle, later = (relay.connect() for _ in range(4))
    for sender in (reading, idle, later):
        await call(relay, node, sender)
        await asyncio.sleep(1)
    calling.send(get())
    reading.send(get()[:20])
    await call(relay, node, later)
    await asyncio.sleep(2)
    for gone in (idle, later):
        assert relay.port.make_room()
        await settle()
        assert gone.lost
    await asyncio.sleep(2)
    assert not relay.port.make_room()
    assert not calling.lost
    assert not reading.lost


@on_relay()
async def test_who_has_ended_a_call_a_moment_ago_or_began_another_since_is_let_be(relay: SmallRelay) -> None:
    node = relay.attach_node()
    first, second = relay.connect(), relay.connect()
    await call(relay, node, first)
    assert not relay.port.make_room()
    await asyncio.sleep(1)
    await call(relay, node, second)
    await asyncio.sleep(2)
    assert relay.port.make_room()  # the second was found as well
    await call(relay, node, second)
    assert not relay.port.make_room()
    await settle()
    assert (first.lost, second.lost) == (True, False)


@on_relay()
async def test_connections_of_an_address_count_until_they_have_shown_a_credential_or_end(
    relay: SmallRelay,
) -> None:
    node = relay.attach_node()
    calling, gone, *others = (relay.connect() for _ in range(5))
    await settle()
    assert relay.port.strangers_of("127.0.0.1") == 5
    await call(relay, node, calling)
    gone.transport.abort()
    await settle()
    assert relay.port.strangers_of("127.0.0.1") == 3
    await asyncio.sleep(HEAD_SECONDS - 1)
    assert not relay.port.make_room(of_strangers=True)
    for other in others:
        other.transport.abort()
    await settle()
    assert relay.port.strangers_of("127.0.0.1") == 0
    assert not relay.port.make_room(of_strangers=True)  # one that is idle is no stranger's
    assert not calling.lost
