"""Calls that come in at worker 1, to nodes whose link worker 2 holds."""

import asyncio

import pytest

from relay.admission.quota_form import Quota
from relay.workers.splice import HopIn
from tests.relay.calls.test_paced_stream import bound
from tests.relay.senders.test_links import Call
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import HOST, Node, NodeCall, Sender, get, reply
from tests.support.two_workers import TwoWorkers, on_two_workers, settle_across
from trunkline.channel.errors import ChannelError
from trunkline.channel.link import Link, LinkOwner, LinkStream, StreamHandler

MEGABYTE = 1_000_000


def answering(call: NodeCall) -> None:
    if b"\r\n\r\n" in call.received and call.stream.writable:
        call.answer(reply())


async def across(workers: TwoWorkers) -> tuple[Node, Sender]:
    """A node at worker 2, and a sender at worker 1."""
    node = workers.relays[2].attach_node()
    await settle_across()
    return node, workers.relays[1].connect()


class NotingDoor:
    """A hop's door that notes the calls which it takes."""

    def __init__(self, door: LinkOwner) -> None:
        self._door = door
        self.taken: list[HopIn] = []

    def stream_offered(self, stream: LinkStream) -> StreamHandler | None:
        handler = self._door.stream_offered(stream)
        assert isinstance(handler, HopIn)
        self.taken.append(handler)
        return handler

    def go_away_received(self, link: Link, code: int) -> None:
        self._door.go_away_received(link, code)

    def link_lost(self, link: Link, error: ChannelError | None) -> None:
        self._door.link_lost(link, error)


def status(sender: Sender) -> bytes:
    return bytes(sender.received[9:12])


@on_two_workers()
async def test_calls_one_after_the_other(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    for number in range(3):
        sender.send(get(b"/%d" % number))
        await settle_across()
        call = node.calls[number]
        assert call.head.startswith(b"GET /%d HTTP/1.1\r\nHost: %b\r\n" % (number, HOST))
        call.answer(reply(b"%d" % number))
        await settle_across()
        assert sender.take().endswith(b"\r\n\r\n%d" % number)
        assert call.ended
        assert call.lost is None
    assert workers.relays[1].metric("calls_total", door="proxy", outcome="forwarded") == 3
    assert workers.relays[2].metric("calls_total", door="proxy", outcome="forwarded") == 0


@on_two_workers()
async def test_a_quota_of_bytes_slows_what_hops(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    bound(workers.relays[1], Quota(bytes_per_second=MEGABYTE // 10))
    content = b"x" * MEGABYTE
    sender.send(get())
    await settle_across()
    node.calls[0].answer(reply(content))
    await asyncio.sleep(4)
    assert workers.relays[1].front.pacing.waiting == 1
    # What the quota has let through by then, and one window at each worker's.
    assert len(sender.received) <= 6 * MEGABYTE // 10 + 2 * 65_536
    await asyncio.sleep(6)
    assert sender.received.endswith(b"\r\n\r\n" + content)


@on_two_workers()
async def test_an_answer_in_pieces_whose_end_is_the_streams(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    sender.send(get())
    await settle_across()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\none", end=False)
    await settle_across()
    assert sender.take().endswith(b"3\r\none\r\n")
    node.calls[0].answer(b"two")
    await settle_across()
    assert sender.take() == b"3\r\ntwo\r\n0\r\n\r\n"


@on_two_workers()
async def test_a_whole_answer_counts_that_a_reset_comes_right_behind(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    sender.send(get(method=b"PUT")[:-2] + b"Content-Length: 9\r\n\r\nfour")
    await settle_across()
    node.calls[0].answer(reply(status=b"403 Forbidden"), end=False)
    node.calls[0].stream.reset()
    await settle_across()
    assert status(sender) == b"403"
    assert sender.received.endswith(b"hello")


@on_two_workers()
async def test_content_waits_for_a_node_that_takes_nothing(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    node.greedy = False
    sender.send(get(method=b"PUT")[:-2] + b"Content-Length: %d\r\n\r\n" % (2 * MEGABYTE))
    sender.send(b"x" * 2 * MEGABYTE)
    await settle_across()
    [call] = node.calls
    # One window at the node, one between the workers, and what the connection's own buffers hold.
    held = len(call.received) + workers.relays[2].budget.held_bytes
    assert held < MEGABYTE
    while len(call.content) < 2 * MEGABYTE:
        call.take()
        await settle_across()
    call.answer(reply())
    await settle_across()
    assert status(sender) == b"200"


@on_two_workers()
async def test_content_that_a_node_never_takes_behind_its_answer_is_given_up(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    node.greedy = False
    sender.send(get(method=b"PUT")[:-2] + b"Content-Length: 65400\r\n\r\n" + b"x" * 65_400)
    await settle_across()
    [call] = node.calls
    assert len(call.content) < 65_400
    call.answer(reply())
    await settle_across()
    assert status(sender) == b"200"
    assert call.lost is None
    await asyncio.sleep(workers.relays[2].limits.stream_stall_seconds + 1)
    assert call.lost is not None
    assert workers.relays[2].budget.held_bytes == 0


@on_two_workers()
async def test_an_answer_waits_for_a_sender_that_takes_nothing(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    sender.send(get())
    await settle_across()
    sender.transport.pause_reading()
    call = node.calls[0]
    call.answer(reply(b"x" * 4 * MEGABYTE))
    await asyncio.sleep(1)
    assert call.unsent_bytes > 2 * MEGABYTE
    sender.transport.resume_reading()
    await asyncio.sleep(5)
    assert len(sender.received) > 4 * MEGABYTE
    assert call.unsent_bytes == 0


@on_two_workers()
async def test_raw_bytes_and_their_ends_pass_in_both_directions(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    line = (
        b"CONNECT " + HOST + b":5432 HTTP/1.1\r\nHost: " + HOST + b":5432\r\nProxy-Authorization: Bearer good\r\n\r\n"
    )
    sender.send(line)
    await settle_across()
    call = node.calls[0]
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle_across()
    assert status(sender) == b"200"
    sender.take()
    for _ in range(3):
        sender.send(b"ping")
        await settle_across()
        call.answer(b"pong", end=False)
        await settle_across()
    assert call.content == b"pingpingping"
    assert sender.take() == b"pongpongpong"
    call.answer(b"last", end=True)
    await settle_across()
    assert sender.take() == b"last"
    assert sender.ended
    sender.transport.close()


@on_two_workers()
async def test_a_sender_that_goes_cancels_the_nodes_stream(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    sender.send(get())
    await settle_across()
    sender.transport.abort()
    await settle_across()
    assert node.calls[0].lost is not None


@on_two_workers()
async def test_a_node_that_resets_is_a_502_and_one_that_is_lost_too(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    sender.send(get())
    await settle_across()
    node.calls[0].stream.reset()
    await settle_across()
    assert status(sender) == b"502"
    sender.take()
    sender.send(get())
    await settle_across()
    node.link.abort()
    await settle_across()
    assert status(sender) == b"502"


@on_two_workers(listener_seconds=2.0)
async def test_a_node_that_does_not_take_the_call_is_a_504(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    node.link.get_extra_info("transport")
    held = node.link._transport
    assert held is not None
    held.pause_reading()
    sender.send(get())
    await asyncio.sleep(5)
    assert status(sender) == b"504"
    held.resume_reading()
    await settle_across()
    assert all(call.lost is not None for call in node.calls)


@on_two_workers(max_streams_per_link=2)
async def test_a_link_that_is_full_is_a_429(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    busy = [workers.relays[1].connect() for _ in range(2)]
    for one in busy:
        one.send(get())
    await settle_across()
    sender.send(get())
    await settle_across()
    assert status(sender) == b"429"
    for call in node.calls:
        call.answer(reply())
    await settle_across()
    assert [status(one) for one in busy] == [b"200", b"200"]


@on_two_workers(max_streams_per_link=32)
async def test_senders_are_told_apart_over_the_hop(workers: TwoWorkers) -> None:
    await across(workers)
    calls: dict[bytes, list[Sender]] = {}
    for token in (b"good", b"workspace", b"control-plane"):
        calls[token] = [workers.relays[1 + place % 2].connect() for place in range(32)]
        for sender in calls[token]:
            sender.send(get(token=token))
        await settle_across()
    open_calls = {token: sum(not sender.received for sender in senders) for token, senders in calls.items()}
    assert open_calls == {b"good": 16, b"workspace": 8, b"control-plane": 8}


@on_two_workers()
async def test_a_draining_link_finishes_what_came_over_the_hop_and_takes_nothing_new(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    late = workers.relays[1].connect()
    sender.send(get())
    await settle_across()
    [listener] = workers.relays[2].registry.listeners
    draining = workers.loop.create_task(listener.link.drain(30))
    await settle_across()
    late.send(get())
    await settle_across()
    assert status(late) == b"502"
    assert b"leaving" in late.received
    node.calls[0].answer(reply())
    assert await draining
    await settle_across()
    assert status(sender) == b"200"


@on_two_workers()
async def test_calls_over_a_lost_link_between_workers_fail_and_the_next_go_over_another(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    node.script = answering
    slow = workers.relays[1].connect()
    node.script = lambda call: None
    slow.send(get())
    await settle_across()
    workers.links[1].abort()
    await settle_across()
    assert status(slow) == b"502"
    assert node.calls[0].lost is not None
    node.script = answering
    sender.send(get())
    await settle_across()
    assert status(sender) == b"200"


@on_two_workers()
async def test_halves_forget_each_other(workers: TwoWorkers) -> None:
    node, sender = await across(workers)
    node.script = answering
    workers.links[2]._owner = door = NotingDoor(workers.links[2]._owner)
    sender.send(get())
    await settle_across()
    assert status(sender) == b"200"
    assert [hop._out for hop in door.taken] == [None]


async def tunnel_that_both_have_ended(workers: TwoWorkers) -> tuple[Call, LinkSender, Node]:
    """Its sender takes next to nothing of what the node sent, so that some of it waits at the node's worker."""
    node, sender = workers.relays[2].attach_node(), LinkSender(workers.relays[1], window_bytes=1024)
    await settle_across()
    call = sender.call(
        b"CONNECT %b:22 HTTP/1.1\r\nHost: %b:22\r\nProxy-Authorization: Bearer good\r\n\r\n" % (HOST, HOST)
    )
    await settle_across()
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n", end=False)
    await settle_across()
    call.greedy = False
    call.stream.end()
    await settle_across()
    node.calls[0].answer(b"y" * 110_000)
    await settle_across()
    assert node.link.streams == 0
    return call, sender, node


@on_two_workers()
async def test_what_waits_of_a_tunnel_that_both_have_ended_counts_as_held(workers: TwoWorkers) -> None:
    """The node's stream, where it counted before, is over by then."""
    call, sender, _ = await tunnel_that_both_have_ended(workers)
    budget = workers.relays[2].budget
    assert budget.held_bytes > 40_000
    call.greedy = True
    call.stream.consumed(call.stream.unconsumed_bytes)
    await settle_across()
    assert call.received.endswith(b"\r\n\r\n" + b"y" * 110_000)
    assert (budget.held_bytes, sender.link.streams) == (0, 0)
    sender.ends[0].abort()


@pytest.mark.parametrize("given_up", [False, True])
@on_two_workers()
async def test_and_does_no_longer_once_it_is_cut(workers: TwoWorkers, given_up: bool) -> None:
    """By the sender, or since memory is needed."""
    call, sender, node = await tunnel_that_both_have_ended(workers)
    budget = workers.relays[2].budget
    if given_up:
        call.stream.reset()
    else:
        budget.held_limit_bytes = 20_000
        node.link.go_away()
    await settle_across()
    assert budget.held_bytes == 0
    assert budget.streams_cut == (0 if given_up else 1)
    assert given_up or call.lost is not None
    assert workers.relays[1].uses.open.keys() == {sender.relay_side}
    sender.ends[0].abort()


@pytest.mark.parametrize("raw", [True, False])
@on_two_workers()
async def test_what_waits_of_a_node_that_has_ended_and_gone_is_passed_on(workers: TwoWorkers, raw: bool) -> None:
    node, sender = workers.relays[2].attach_node(), LinkSender(workers.relays[1], window_bytes=1024)
    await settle_across()
    target = HOST + b":22"
    line = b"CONNECT " + target if raw else b"GET /"
    head = b"%b HTTP/1.1\r\nHost: %b\r\nProxy-Authorization: Bearer good\r\n\r\n" % (line, target)
    call = sender.call(head, greedy=False)
    await settle_across()
    content = b"y" * 110_000
    node.calls[0].answer(b"HTTP/1.1 200 OK\r\n\r\n" + content if raw else reply(content))
    await settle_across()
    assert not node.calls[0].stream.writable, "all of it is at the relay"
    node.calls[0].stream.reset()
    await asyncio.sleep(20)
    assert workers.relays[2].budget.held_bytes > 40_000
    call.greedy = True
    call.stream.consumed(call.stream.unconsumed_bytes)
    await settle_across()
    assert call.received.endswith(content)
    assert call.ended
    assert call.lost is None
    call.stream.end()
    await settle_across()
    assert (workers.relays[2].budget.held_bytes, sender.link.streams) == (0, 0)
    sender.ends[0].abort()
