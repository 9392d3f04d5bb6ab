"""A link that holds too much for too long loses the streams that hold most, and nothing else."""

import asyncio
from typing import Any

from relay.bounds.held_watch import HeldWatch
from tests.support.small_relay import Node, NodeCall, Sender, SmallRelay, get, on_relay, reply, settle

KIB = 1024
LINK_BYTES = 150 * KIB
STALL_SECONDS = 5.0


def watch_of(relay: SmallRelay) -> HeldWatch:
    return HeldWatch(
        lambda: relay.registry.links,
        relay.budget,
        link_held_bytes=LINK_BYTES,
        stall_seconds=STALL_SECONDS,
        metrics=relay.metrics,
    )


async def stalled(
    relay: SmallRelay, node: Node, count: int, first_bytes: int | None = None
) -> tuple[list[Sender], list[NodeCall]]:
    """Calls whose senders have stopped reading, each with a full window held for it, or what has come so far."""
    senders: list[Sender] = [relay.connect() for _ in range(count)]
    for sender in senders:
        sender.send(get(b"/big"))
    await settle()
    for sender, call in zip(senders, node.calls, strict=True):
        sender.transport.pause_reading()
        call.answer(reply(b"x" * 1_000_000)[:first_bytes], end=first_bytes is None)
    await settle()
    return senders, node.calls


async def look_for(watch: HeldWatch, seconds: float) -> None:
    for _ in range(round(seconds)):
        watch.look()
        await asyncio.sleep(1)


@on_relay(write_stall_seconds=600)
async def test_the_streams_that_hold_most_are_reset_after_the_deadline(relay: SmallRelay) -> None:
    node, watch = relay.attach_node(), watch_of(relay)
    _, calls = await stalled(relay, node, 4)
    assert relay.budget.held_bytes > LINK_BYTES
    await look_for(watch, STALL_SECONDS)
    assert [call.lost for call in calls] == [None] * 4, "not before its time"
    watch.look()
    await settle()
    cut = [call for call in calls if call.lost is not None]
    assert 0 < len(cut) < 4, "as many as it takes, and no more"
    assert relay.budget.held_bytes <= LINK_BYTES
    assert relay.metric("streams_cut_total", bound="link") == len(cut)
    assert not node.link.lost
    await answers_on(relay, node)


@on_relay(write_stall_seconds=600)
async def test_many_streams_are_reset_a_few_at_a_time(relay: SmallRelay) -> None:
    node, watch = relay.attach_node(), watch_of(relay)
    _, calls = await stalled(relay, node, 60)
    await look_for(watch, STALL_SECONDS)
    watch.look()
    assert 0 < relay.metric("streams_cut_total", bound="link") < 10
    await asyncio.sleep(0.5)
    assert relay.metric("streams_cut_total", bound="link") > 50
    assert 0 < relay.budget.held_bytes <= LINK_BYTES
    await asyncio.sleep(1)
    assert any(call.lost is None for call in calls), "no more than it takes"


@on_relay(write_stall_seconds=600)
async def test_what_is_taken_before_its_turn_to_be_reset_comes_is_not_lost(relay: SmallRelay) -> None:
    await asyncio.sleep(2 * STALL_SECONDS)
    node, watch = relay.attach_node(), watch_of(relay)
    senders, calls = await stalled(relay, node, 60, first_bytes=200 * KIB)
    await look_for(watch, STALL_SECONDS)
    assert relay.metric("streams_cut_total", bound="link") == 0, "not before its time"
    watch.look()
    for sender in senders:
        sender.transport.resume_reading()
    await asyncio.sleep(1)
    assert 0 < sum(call.lost is not None for call in calls) < 10


async def answers_on(relay: SmallRelay, node: Node) -> None:
    """The link goes on."""
    sender = relay.connect()
    sender.send(get())
    await settle()
    node.calls[-1].answer(reply(b"still here"))
    await settle()
    assert sender.received.endswith(b"still here")


@on_relay(write_stall_seconds=600)
async def test_a_link_that_is_relieved_in_time_loses_nothing(relay: SmallRelay) -> None:
    node, watch = relay.attach_node(), watch_of(relay)
    senders, calls = await stalled(relay, node, 4)
    await look_for(watch, STALL_SECONDS - 1)
    senders[0].transport.resume_reading()
    senders[1].transport.resume_reading()
    await settle()
    assert relay.budget.held_bytes <= LINK_BYTES
    await look_for(watch, 2 * STALL_SECONDS)
    assert [call.lost for call in calls] == [None] * 4


@on_relay(write_stall_seconds=600)
async def test_what_a_link_holds_is_not_anothers(relay: SmallRelay) -> None:
    nodes: list[Any] = [relay.attach_node("vm-1"), relay.attach_node("vm-2")]
    watch = watch_of(relay)
    for node, name in zip(nodes, (b"vm-1", b"vm-2"), strict=True):
        for _ in range(2):
            sender = relay.connect()
            sender.send(get(b"/big", host=name + b".finance.trunk.internal"))
            sender.transport.pause_reading()
        await settle()
        for call in node.calls:
            call.answer(reply(b"x" * 1_000_000))
    await settle()
    assert relay.budget.held_bytes > LINK_BYTES
    await look_for(watch, 2 * STALL_SECONDS)
    assert all(call.lost is None for node in nodes for call in node.calls)
