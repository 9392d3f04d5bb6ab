"""What a relay that drains tells of the calls that keep it."""

from relay.drain.unfinished import MAX_NAMED_CALLS, unfinished
from tests.support.small_relay import HOST, SmallRelay, get, on_relay, reply, settle

CONNECT = b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)


@on_relay()
async def test_calls_are_told_with_their_nodes_and_when_they_began(relay: SmallRelay) -> None:
    node = relay.attach_node()
    plain, raw = relay.connect(), relay.connect()
    plain.send(get())
    await settle()
    raw.send(CONNECT)
    await settle()
    node.calls[1].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle()
    told = unfinished(relay.registry, relay.port, behind_seconds=1_800_000_000.0)
    assert (told["connections"], told["calls_open"], told["sender_links"]) == (2, 2, 0)
    kinds = [(call["kind"], call["node"], call["workspace"], call["port"]) for call in told["calls"]]
    assert kinds == [("exchange", "vm-1", "finance", 80), ("stream", "vm-1", "finance", 22)]
    assert told["calls"][0]["start_time"].startswith("2027-01-15T08:00:0")
    node.calls[0].answer(reply())
    await settle()
    left = unfinished(relay.registry, relay.port, behind_seconds=0.0)["calls"]
    assert [call["port"] for call in left] == [22]


@on_relay()
async def test_of_many_calls_the_oldest_are_named(relay: SmallRelay) -> None:
    relay.attach_node()
    for _ in range(MAX_NAMED_CALLS + 1):
        relay.connect().send(get())
    await settle()
    told = unfinished(relay.registry, relay.port, behind_seconds=0.0)
    assert told["calls_open"] == MAX_NAMED_CALLS + 1
    assert len(told["calls"]) == MAX_NAMED_CALLS
