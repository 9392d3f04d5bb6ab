"""What waits for slow senders once their calls are over is counted and bounded as it is while they are in progress."""

import asyncio

import pytest

from relay.bounds.untaken import Untaken
from tests.relay.senders.test_links import Call, request
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import Node, NodeCall, Sender, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.errors import ChannelError
from trunkline.channel.limits import CreditBudget

CONTENT = b"x" * 60_000


class Holder:
    def __init__(self) -> None:
        self.error: ChannelError | None = None

    def cut(self, error: ChannelError) -> None:
        self.error = error


def test_it_counts_towards_the_budget_and_knows_the_largest() -> None:
    budget = CreditBudget()
    untaken, small, large = Untaken(budget), Holder(), Holder()
    assert untaken.largest_holder() is None
    untaken.note(small, 10)
    untaken.note(large, 50)
    untaken.note(large, 30)
    assert untaken.held_bytes() == budget.held_bytes == 40
    assert untaken.largest_holder() is next(budget.largest_first()) is large
    untaken.forget(large)
    untaken.forget(large)
    assert untaken.held_bytes() == budget.held_bytes == 10
    assert untaken.largest_holder() is small


def answer_all(node: Node, content: bytes) -> None:
    """Each call is answered as soon as its head is there."""

    def answer(call: NodeCall) -> None:
        if call.received.endswith(b"\r\n\r\n"):
            call.answer(reply(content))

    node.script = answer


async def over_and_untaken(relay: SmallRelay, count: int) -> tuple[LinkSender, list[Call]]:
    """Calls on a link that the node has answered, and of which the sender takes no more than its first small window."""
    answer_all(relay.attach_node(), CONTENT)
    sender = LinkSender(relay, window_bytes=1024)
    calls = [sender.call(request(), greedy=False) for _ in range(count)]
    await settle()
    assert not relay.calls_open
    return sender, calls


@on_relay()
async def test_a_link_that_takes_nothing_of_complete_answers_holds_them(relay: SmallRelay) -> None:
    sender, calls = await over_and_untaken(relay, 3)
    held_bytes = relay.budget.held_bytes
    assert held_bytes > 3 * (len(CONTENT) - 1024)
    for call in calls:
        call.greedy = True
        call.stream.consumed(len(call.received))
    await asyncio.sleep(relay.limits.stream_stall_seconds / 2)
    assert [call.received.endswith(CONTENT) for call in calls] == [True] * 3
    assert relay.budget.held_bytes == 0
    sender.ends[0].abort()


@on_relay()
async def test_what_is_taken_of_it_is_no_longer_counted(relay: SmallRelay) -> None:
    sender, (call,) = await over_and_untaken(relay, 1)
    before_bytes = relay.budget.held_bytes
    for _ in range(10):
        call.stream.consumed(call.stream.unconsumed_bytes)
        await settle()
    await asyncio.sleep(relay.limits.stream_stall_seconds / 2)
    assert before_bytes - 15_000 < relay.budget.held_bytes < before_bytes - 9_000
    sender.ends[0].abort()
    await settle()
    assert relay.budget.held_bytes == 0


@on_relay()
async def test_where_all_hold_too_much_complete_answers_are_cut(relay: SmallRelay) -> None:
    sender, calls = await over_and_untaken(relay, 3)
    relay.budget.held_limit_bytes = 2 * len(CONTENT) + len(CONTENT) // 8
    last = sender.call(request(), greedy=False)
    await settle()
    assert sum(call.lost is not None for call in [*calls, last]) == 2
    assert relay.budget.held_bytes <= relay.budget.held_limit_bytes
    assert relay.budget.streams_cut == 2
    sender.ends[0].abort()


async def paused(relay: SmallRelay, size: int) -> Sender:
    """A connection that stops reading, and its call's answer, which is complete."""
    answer_all(relay.attach_node(window_bytes=262_144), b"x" * size)
    sender = relay.connect()
    sender.transport.pause_reading()
    sender.send(get())
    await settle()
    assert not relay.calls_open
    return sender


@on_relay()
async def test_a_connection_that_takes_nothing_of_a_complete_answer_holds_it(relay: SmallRelay) -> None:
    sender = await paused(relay, 200_000)
    assert relay.budget.held_bytes > 200_000
    sender.transport.resume_reading()
    await settle()
    assert relay.budget.held_bytes == 0
    sender.send(get())
    await settle()
    assert sender.received.count(b"HTTP/1.1 200 OK") == 2


@on_relay()
async def test_a_connection_is_cut_for_it_where_all_hold_too_much(relay: SmallRelay) -> None:
    relay.budget.held_limit_bytes = 100_000
    sender = await paused(relay, 200_000)
    await settle()
    assert sender.lost
    assert relay.budget.held_bytes == 0


@pytest.mark.parametrize("seconds", [1.0, 30.0])
@on_relay()
async def test_a_connection_that_is_gone_holds_nothing(relay: SmallRelay, seconds: float) -> None:
    """Whether its sender ends it, or the deadline for taking something."""
    sender = await paused(relay, 200_000)
    await asyncio.sleep(seconds)
    sender.transport.abort()
    await settle()
    assert relay.budget.held_bytes == 0
