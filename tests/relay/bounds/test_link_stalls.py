"""A link whose peer takes nothing is aborted; one that takes some is not."""

import asyncio

from relay.bounds.link_stalls import STALL_SECONDS, LinkStalls
from tests.support.small_relay import Node, Sender, SmallRelay, get, on_relay, settle


async def full_link(relay: SmallRelay) -> tuple[Node, list[Sender], LinkStalls]:
    """A node that does not read, and uploads that fill the transport towards it."""
    node = relay.attach_node()
    node.pause_reading()
    senders = [relay.connect() for _ in range(8)]
    for sender in senders:
        sender.send(get(b"/", b"Content-Length: 1000000", method=b"PUT") + b"x" * 100_000)
    await settle()
    return node, senders, LinkStalls(lambda: relay.registry.links, relay.front.deadline_passed)


async def look_for(stalls: LinkStalls, seconds: float) -> None:
    for _ in range(round(seconds)):
        stalls.look()
        await asyncio.sleep(1)


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_a_peer_that_takes_nothing(relay: SmallRelay) -> None:
    node, _, stalls = await full_link(relay)
    await look_for(stalls, STALL_SECONDS)
    assert not node.link.lost
    stalls.look()
    await settle()
    assert node.link.lost
    assert relay.metric("deadlines_total", deadline="link_stall") == 1
    assert relay.metric("links_ended_total", role="listener", reason="closed") == 1


@on_relay(listener_seconds=600, body_min_bytes_per_second=1)
async def test_a_peer_that_takes_some(relay: SmallRelay) -> None:
    node, senders, stalls = await full_link(relay)
    await look_for(stalls, STALL_SECONDS - 1)
    node.resume_reading()
    await settle()
    node.pause_reading()
    await look_for(stalls, STALL_SECONDS - 1)
    assert not node.link.lost
    node.resume_reading()
    await settle()
    stalls.look()
    assert all(len(call.content) == 100_000 for call in node.calls)
    assert len(senders) == len(node.calls)
