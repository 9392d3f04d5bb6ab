import asyncio

from tests.support.small_relay import SmallRelay, get, on_relay, settle

HEAD_SECONDS = 10.0


@on_relay()
async def test_who_shows_no_credential_in_time_makes_room_the_oldest_first(relay: SmallRelay) -> None:
    older, newer = relay.connect(), relay.connect()
    for stranger in (older, newer):
        stranger.send(get(token=b"bad"))
    await settle()
    assert not relay.port.make_room()  # each has its time
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
    assert relay.metric("deadlines_total", deadline="credential") == 2


@on_relay()
async def test_who_has_shown_a_credential_once_makes_no_room(relay: SmallRelay) -> None:
    node = relay.attach_node()
    sender = relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(b"HTTP/1.1 204 No Content\r\n\r\n")
    await settle()
    sender.send(get(token=b"bad"))  # as of one whose token has expired
    await asyncio.sleep(HEAD_SECONDS + 1)
    assert not relay.port.make_room()
    assert not sender.lost
