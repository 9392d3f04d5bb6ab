"""What two workers and their parent make of links: who has a node, who wins, what is counted together."""

import asyncio

from relay.links.listeners import Listener
from relay.trust.credentials import Refusal
from relay.workers.hop import HOP_HEAD
from relay.workers.siblings import LOOK_SECONDS, ON_THEIR_WAY_SECONDS, Siblings
from tests.support.small_relay import NodeCall, get, listener_grant, reply
from tests.support.two_workers import TwoWorkers, on_two_workers, settle_across
from trunkline.channel.frames import MAX_STREAM_ID
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.logs import get_logger


def answering(call: NodeCall) -> None:
    if b"\r\n\r\n" in call.received and call.stream.writable:
        call.answer(reply())


async def call(workers: TwoWorkers, place: int) -> bytes:
    """What a call that comes in at a worker is answered."""
    sender = workers.relays[place].connect()
    sender.send(get())
    await settle_across()
    sender.transport.close()
    return bytes(sender.received[9:12])


async def claim(workers: TwoWorkers, place: int, instance: str, sequence: int) -> Listener | Refusal:
    return await workers.relays[place].claims.claim(listener_grant("finance", "vm-1"), instance, sequence)


@on_two_workers()
async def test_a_node_is_reached_from_both_and_from_none_when_it_has_gone(workers: TwoWorkers) -> None:
    node = workers.relays[2].attach_node()
    node.script = answering
    await settle_across()
    assert [await call(workers, place) for place in (1, 2)] == [b"200", b"200"]
    assert workers.nodes == 1
    node.link.go_away()
    await settle_across()
    assert [await call(workers, place) for place in (1, 2)] == [b"502", b"502"]
    node.link.abort()
    await settle_across()
    assert workers.nodes == 0


@on_two_workers()
async def test_the_link_between_workers_is_another_before_its_stream_ids_are_used_up(workers: TwoWorkers) -> None:
    """Weeks of calls use them up: there are 2^31 for those that hop in one direction."""
    node = workers.relays[2].attach_node()
    await settle_across()
    old = workers.links[1]
    old.session._next_id = MAX_STREAM_ID - 2 * 3
    long = workers.relays[1].connect()
    long.send(get())
    await settle_across()
    node.script = answering
    await asyncio.sleep(2 * LOOK_SECONDS)
    assert [await call(workers, 1) for _ in range(10)] == [b"200"] * 10
    assert not old.lost
    node.calls[0].answer(reply())
    await settle_across()
    assert long.received[9:12] == b"200"
    await asyncio.sleep(ON_THEIR_WAY_SECONDS + 1)
    assert old.lost
    assert not workers.links[1].lost
    assert await call(workers, 1) == b"200"


@on_two_workers()
async def test_a_newer_link_at_the_other_worker_wins_and_no_call_is_lost_meanwhile(workers: TwoWorkers) -> None:
    old = workers.relays[1].attach_node()
    old.script = answering
    await settle_across()
    senders = []
    for turn in range(60):
        if turn == 20:
            assert isinstance(await claim(workers, 2, "instance", 2), Listener)
            new = workers.relays[2].attach_node(sequence=2)
            new.script = answering
        for place in (1, 2):
            sender = workers.relays[place].connect()
            sender.send(get())
            senders.append(sender)
        await asyncio.sleep(0)
    await settle_across()
    assert {bytes(sender.received[9:12]) for sender in senders} == {b"200"}
    taken = len(old.calls)
    assert [await call(workers, place) for place in (1, 2)] == [b"200", b"200"]
    assert len(old.calls) == taken
    await asyncio.sleep(5)
    assert old.link.draining
    assert not new.link.draining
    assert workers.relays[1].metric("links_superseded_total") == 1


@on_two_workers()
async def test_a_late_duplicate_is_stale_at_whichever_worker(workers: TwoWorkers) -> None:
    workers.relays[1].attach_node(sequence=5)
    await settle_across()
    refused = await claim(workers, 2, "instance", 5)
    assert isinstance(refused, Refusal)
    assert refused.outcome is Outcome.SUPERSEDED


@on_two_workers()
async def test_another_process_is_a_clone_while_the_rival_answers_and_wins_when_it_does_not(
    workers: TwoWorkers,
) -> None:
    node = workers.relays[1].attach_node()
    await settle_across()
    refused = await claim(workers, 2, "another", 1)
    assert isinstance(refused, Refusal)
    assert refused.outcome is Outcome.CLONE
    assert workers.relays[2].metric("clone_alarms_total") == 1
    assert node.link._transport is not None
    node.link._transport.pause_reading()
    assert isinstance(await claim(workers, 2, "another", 1), Listener)
    await settle_across()
    assert not workers.relays[1].registry.listeners


@on_two_workers()
async def test_of_two_links_that_were_claimed_at_once_one_stays(workers: TwoWorkers) -> None:
    claims = [await claim(workers, place, "instance", place) for place in (1, 2)]
    assert all(isinstance(one, Listener) for one in claims)
    nodes = [workers.relays[place].attach_node(sequence=place) for place in (1, 2)]
    await asyncio.sleep(5)
    assert [node.link.draining for node in nodes] == [True, False]
    for node in nodes:
        node.script = answering
    assert [await call(workers, place) for place in (1, 2)] == [b"200", b"200"]
    assert not [made for made in nodes[0].calls if made.head.startswith(b"GET ")]


@on_two_workers(max_links_per_workspace=2)
async def test_links_of_a_workspace_are_counted_together(workers: TwoWorkers) -> None:
    workers.relays[1].attach_node("vm-8")
    workers.relays[2].attach_node("vm-9")
    await settle_across()
    refused = await claim(workers, 1, "instance", 1)
    assert isinstance(refused, Refusal)
    assert refused.outcome is Outcome.OVER_QUOTA
    replacing = await workers.relays[1].claims.claim(listener_grant("finance", "vm-9"), "instance", 2)
    assert isinstance(replacing, Listener)


@on_two_workers()
async def test_a_worker_that_ends_takes_its_nodes_along_and_no_others(workers: TwoWorkers) -> None:
    workers.relays[2].attach_node().script = answering
    kept = workers.relays[1].attach_node("vm-2")
    await settle_across()
    workers.switchboard.ended(2)
    workers.siblings[1].on_gone(2)
    await settle_across()
    assert await call(workers, 1) == b"502"
    assert workers.nodes == 1
    assert not kept.link.lost


@on_two_workers()
async def test_a_worker_that_is_started_again_numbers_its_links_otherwise(workers: TwoWorkers) -> None:
    workers.relays[1].attach_node()
    await settle_across()
    [listener] = workers.relays[1].registry.listeners
    [before] = [members["number"] for place, kind, members in workers.told if (place, kind) == (2, "opened")]
    numbers: list[int] = []
    again = Siblings(lambda kind, **members: numbers.append(members["number"]), asyncio.ensure_future, get_logger("t"))
    for _ in range(100):
        again.attached(listener)
    assert again.listener(before) is None
    assert HOP_HEAD.unpack(HOP_HEAD.pack(numbers[-1], 7)) == (numbers[-1], 7)
    assert sorted(set(numbers)) == numbers
