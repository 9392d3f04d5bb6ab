import asyncio
from typing import Any
from uuid import UUID

import pytest

from relay.links.listeners import MAX_CONTROL_EXCHANGES
from relay.trust.credentials import Refusal
from tests.support.small_relay import HOST, Node, NodeCall, Sender, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.heads import parse_response_head
from trunkline.channel.limits import Limits
from trunkline.channel.link import Link, Role
from trunkline.channel.outcomes import Outcome
from trunkline.channel.terms import OWN_TERMS
from trunkline.channel.upgrade import Carrier, LinkRequest, read_link_response, write_link_request
from trunkline.channel.websocket_fields import new_websocket_key

INSTANCE = "00000000-0000-4000-8000-000000000001"


def asking(*fields: bytes, upgrade: bytes = b"yamux") -> bytes:
    lines = [b"GET /v1/link HTTP/1.1", b"Host: relay", b"Connection: Upgrade", b"Upgrade: " + upgrade, *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


LISTEN = (
    b"Authorization: Bearer listen",
    b"Trunkline-Version: 1",
    b"Trunkline-Features: compact",
    b"Trunkline-Window: 65536",
    b"Trunkline-Instance: " + INSTANCE.encode(),
    b"Trunkline-Sequence: 1",
)


def take_over(relay: SmallRelay, sender: Sender, role: Role, owner: Any, *, window_bytes: int, compact: bool) -> Link:
    """Makes a link of the sender's end of a connection whose upgrade was granted."""
    limits = Limits(initial_window_bytes=window_bytes)
    link = Link(role, owner, loop=relay.loop, limits=limits, send_window_bytes=window_bytes, compact=compact,
                keepalive_seconds=None)  # fmt: skip
    raw = sender.take()
    end = raw.index(b"\r\n\r\n") + 4
    link.adopt(sender.transport, raw[end:])
    return link


@on_relay()
async def test_listener_attaches_and_serves(relay: SmallRelay) -> None:
    connection = relay.connect()
    connection.send(asking(*LISTEN))
    await settle()
    raw = bytes(connection.received)
    head = parse_response_head(raw[: raw.index(b"\r\n\r\n") + 4], request_method=b"GET", upgrade=b"yamux")
    assert head.status == 101
    assert head.get(b"trunkline-window") == b"65536"
    assert head.get(b"trunkline-features") == b"compact"
    assert head.get(b"trunkline-request-id")
    node = Node()
    node.link = take_over(relay, connection, Role.SERVER, node, window_bytes=65_536, compact=True)
    sender = relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert sender.received.endswith(b"hello")
    assert relay.registry.find("finance", "vm-1") is not None
    node.link.abort()
    await settle()
    assert relay.registry.find("finance", "vm-1") is None


@on_relay()
async def test_plain_yamux_listener(relay: SmallRelay) -> None:
    connection = relay.connect()
    connection.send(asking(LISTEN[0], *LISTEN[4:]))
    await settle()
    assert b"Trunkline-Window" not in connection.received
    assert b"Trunkline-Version" not in connection.received
    node = Node()
    node.link = take_over(relay, connection, Role.SERVER, node, window_bytes=262_144, compact=False)
    sender = relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert sender.received.endswith(b"hello")


@on_relay()
async def test_sender_attaches_and_calls(relay: SmallRelay) -> None:
    node = relay.attach_node()
    connection = relay.connect()
    connection.send(asking(b"Authorization: Bearer good", *LISTEN[1:4]))
    await settle()
    owner = Node()
    link = take_over(relay, connection, Role.CLIENT, owner, window_bytes=65_536, compact=True)

    stream = link.open(None)
    call = NodeCall(owner, stream)
    stream.handler = call
    call.answer(b"GET / HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Bearer good\r\n\r\n" % HOST, end=False)
    await settle()
    node.calls[0].answer(reply())
    await settle()
    assert call.received.endswith(b"hello")
    assert relay.metric("links_open", role="sender") == 1
    link.abort()
    await settle()
    assert relay.metric("links_open", role="sender") == 0


@on_relay()
async def test_frames_behind_the_upgrade_are_the_links(relay: SmallRelay) -> None:
    relay.attach_node()
    connection = relay.connect()
    ping = bytes.fromhex("00 02 0001 00000000 00000007")
    connection.send(asking(b"Authorization: Bearer good") + ping)
    await settle()
    assert bytes(connection.received).endswith(b"\r\n\r\n" + bytes.fromhex("00 02 0002 00000000 00000007"))


@on_relay()
async def test_websocket_carrier(relay: SmallRelay) -> None:
    connection = relay.connect()
    request = LinkRequest("relay", Carrier.WEBSOCKET, OWN_TERMS, "good", websocket_key=new_websocket_key())
    connection.send(write_link_request(request))
    await settle()
    raw = bytes(connection.received)
    head = parse_response_head(raw[: raw.index(b"\r\n\r\n") + 4], request_method=b"GET", upgrade=b"websocket")
    assert read_link_response(head, request) == OWN_TERMS
    # A masked binary message with a ping frame in it; the answer comes in a message too.
    ping = bytes.fromhex("00 02 0001 00000000 00000007")
    connection.take()
    connection.send(b"\x82\x8c\x00\x00\x00\x00" + ping)
    await settle()
    assert connection.take() == b"\x82\x0c" + bytes.fromhex("00 02 0002 00000000 00000007")


@on_relay()
async def test_listener_that_breaks_the_protocol_and_says_goodbye_at_once(relay: SmallRelay) -> None:
    connection = relay.connect()
    request = LinkRequest("relay", Carrier.WEBSOCKET, OWN_TERMS, "listen", UUID(INSTANCE), 1, new_websocket_key())
    connection.send(write_link_request(request))
    await settle()
    sender = relay.connect()
    sender.send(get())
    await settle()
    connection.send(
        b"\x82\x8c\x00\x00\x00\x00" + bytes.fromhex("09 02 0001 00000000 00000007") + b"\x88\x80\x00\x00\x00\x00"
    )
    await settle()
    assert sender.received.startswith(b"HTTP/1.1 502 ")
    assert relay.metric("links_open", role="listener") == 0


@on_relay()
async def test_control_exchanges_of_a_link_are_bounded(relay: SmallRelay) -> None:
    node = relay.attach_node()
    calls = [NodeCall(node, node.link.open()) for _ in range(50)]
    for call in calls:
        call.stream.handler = call
        call.answer(b"PUT /v1/token HTTP/1.1\r\nX: " + b"a" * 30_000, end=False)
    await settle()
    assert sum(call.lost is None for call in calls) == MAX_CONTROL_EXCHANGES
    await asyncio.sleep(relay.limits.notice_seconds + 1)
    assert all(call.lost is not None for call in calls)
    again = NodeCall(node, node.link.open())
    again.stream.handler = again
    again.answer(b"PUT /v1/token HTTP/1.1\r\nHost: link.internal\r\nContent-Length: 3\r\n\r\nabc")
    await settle()
    assert again.received.startswith(b"HTTP/1.1 204 ")


@on_relay()
async def test_credential_that_is_revoked_while_the_old_link_is_asked(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.link._transport.pause_reading()
    connection = relay.connect()
    connection.send(asking(*LISTEN))
    await settle()
    relay.admission.link_refusal = Refusal(Outcome.REVOKED, "the node is revoked")
    await asyncio.sleep(relay.limits.ping_seconds + 1)
    assert connection.received.startswith(b"HTTP/1.1 401 ")
    assert relay.metric("links_open", role="listener") == 0


@on_relay(head_seconds=1.0)
async def test_who_waits_for_the_old_link_to_answer_makes_no_room(relay: SmallRelay) -> None:
    node = relay.attach_node()
    node.link._transport.pause_reading()
    connection = relay.connect()
    connection.send(asking(*LISTEN))
    await asyncio.sleep(2)
    assert not relay.port.make_room()
    await asyncio.sleep(relay.limits.ping_seconds)
    assert connection.received.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (asking(), 401),
        (asking(b"Authorization: Bearer bad"), 401),
        (asking(LISTEN[0]), 400),
        (asking(*LISTEN, upgrade=b"h2c"), 400),
        (asking(*LISTEN[:3], b"Trunkline-Window: 1"), 400),
        (asking(*LISTEN[:4], b"Trunkline-Instance: x", b"Trunkline-Sequence: 1"), 400),
        (asking(*LISTEN, upgrade=b"websocket"), 400),
        (asking(*LISTEN).replace(b"GET", b"POST"), 400),
    ],
)
@on_relay()
async def test_refusals_end_the_connection(relay: SmallRelay, data: bytes, status: int) -> None:
    connection = relay.connect()
    connection.send(data + get())
    await asyncio.sleep(3)
    assert connection.received.startswith(b"HTTP/1.1 %d " % status)
    assert connection.received.count(b"HTTP/1.1") == 1
    assert b"Proxy-Status: trunkline-relay; error=" in connection.received
    assert connection.lost


@on_relay(max_links_per_workspace=1)
async def test_a_senders_link_for_which_there_is_no_room_is_refused(relay: SmallRelay) -> None:
    connections = [relay.connect() for _ in range(3)]
    for connection in connections[:2]:
        connection.send(asking(b"Authorization: Bearer good"))
        await settle()
    relay.registry.announce_drain()
    connections[2].send(asking(b"Authorization: Bearer good"))
    await asyncio.sleep(3)
    assert [connection.received[:12] for connection in connections] == [
        b"HTTP/1.1 101", b"HTTP/1.1 429", b"HTTP/1.1 503",
    ]  # fmt: skip
    assert relay.metric("links_open", role="sender") == relay.registry.sender_links == 1


@on_relay()
async def test_second_process_with_the_same_identity_is_refused(relay: SmallRelay) -> None:
    first, second = relay.connect(), relay.connect()
    first.send(asking(*LISTEN))
    await settle()
    node = Node()
    node.link = take_over(relay, first, Role.SERVER, node, window_bytes=65_536, compact=True)
    second.send(asking(*LISTEN).replace(INSTANCE.encode(), INSTANCE.replace("1", "2").encode()) + b"early")
    await asyncio.sleep(5)
    assert second.received.startswith(b"HTTP/1.1 409 ")
    assert second.lost
    assert relay.metric("clone_alarms_total") == 1


@on_relay()
async def test_connection_that_goes_while_the_old_link_is_asked(relay: SmallRelay) -> None:
    first, second = relay.connect(), relay.connect()
    first.send(asking(*LISTEN))
    await settle()
    second.send(asking(*LISTEN).replace(INSTANCE.encode(), INSTANCE.replace("1", "2").encode()))
    await settle()
    second.transport.abort()
    await asyncio.sleep(5)
    assert not relay.tasks
    assert relay.metric("links_open", role="listener") == 0
