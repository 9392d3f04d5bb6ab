"""Calls beyond a quota of bytes are slowed to it, whatever door and direction, and hold nothing meanwhile."""

import asyncio
from collections.abc import Callable

import pytest

from relay.admission.quota_form import Quota, WorkspaceQuotas
from relay.admission.quotas import BURST_SECONDS, Quotas
from relay.trust.credentials import Refusal
from tests.relay.senders.test_links import CONNECT, request
from tests.relay.senders.test_links import Sender as LinkSender
from tests.support.small_relay import HOST, SmallRelay, get, on_relay, reply, settle
from trunkline.channel.outcomes import Outcome

RATE = 100_000
SIZE = 1_500_000
WINDOW = 65_536
# What is under way when the quota is used up passes too; what has passed by then is paid for first.
LEAST_SECONDS = (SIZE - BURST_SECONDS * RATE - 4 * WINDOW) / RATE
MOST_SECONDS = (SIZE - BURST_SECONDS * RATE + WINDOW) / RATE
UPLOAD = (b"Content-Length: %d" % SIZE,)
PIECES = bytes(range(256)) * (SIZE // 256 + 1)
CONTENT = PIECES[:SIZE]


def bound(relay: SmallRelay, quota: Quota, sender: Quota = Quota()) -> Quotas:  # noqa: B008 - it does not change
    """Hold all calls of the relay to a quota."""
    quotas = Quotas()
    quotas.replace({"ws-1": WorkspaceQuotas(quota, sender)})
    relay.admission.use = quotas.use("ws-1", "ann", relay.loop.time())
    return quotas


async def until(done: Callable[[], bool], seconds: float = 600.0) -> float:
    """Wait, and return when it was; in virtual time."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    while not done():
        assert loop.time() < ends_at
        await asyncio.sleep(0.02)
    return loop.time()


def held(relay: SmallRelay) -> int:
    return relay.budget.held_bytes


@on_relay()
async def test_a_download_is_as_fast_as_its_quota_and_holds_nothing(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await asyncio.sleep(LEAST_SECONDS / 2)
    assert (held(relay), relay.front.pacing.waiting) == (0, 1)
    taken = await until(lambda: sender.received.endswith(CONTENT[-100:]) and len(sender.received) > SIZE)
    assert LEAST_SECONDS <= taken <= MOST_SECONDS
    assert sender.received.endswith(b"\r\n\r\n" + CONTENT)
    assert relay.front.pacing.waiting == 0


@on_relay()
async def test_so_is_an_upload(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), relay.connect(capacity_bytes=WINDOW)
    sender.send(get(b"/", *UPLOAD, method=b"PUT") + CONTENT)
    await settle()
    taken = await until(lambda: len(node.calls[0].content) == SIZE)
    assert LEAST_SECONDS <= taken <= MOST_SECONDS
    assert node.calls[0].content == CONTENT
    node.calls[0].answer(reply(b"taken"))
    await settle()
    assert sender.received.endswith(b"taken")
    assert relay.front.pacing.waiting == 0


@on_relay()
async def test_and_both_on_a_senders_link(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), LinkSender(relay)
    upload = sender.call(request(b"/", *UPLOAD, method=b"PUT") + CONTENT)
    await settle()
    taken = await until(lambda: len(node.calls[0].content) == SIZE)
    assert LEAST_SECONDS <= taken <= MOST_SECONDS
    assert held(relay) == 0
    node.calls[0].answer(reply(b"taken"))
    await settle()
    assert upload.received.endswith(b"taken")
    await asyncio.sleep(BURST_SECONDS)
    begun = relay.loop.time()
    download = sender.call(request())
    await settle()
    node.calls[1].answer(reply(CONTENT))
    taken = await until(lambda: len(download.received) > SIZE) - begun
    assert LEAST_SECONDS <= taken <= MOST_SECONDS
    assert download.received.endswith(CONTENT)
    sender.ends[0].abort()


@on_relay()
async def test_raw_streams_are_slowed_in_both_directions_and_say_short_things_at_once(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), relay.connect(capacity_bytes=WINDOW)
    tunnel = CONNECT.replace(b":22", b":8022")
    sender.send(tunnel)
    await settle()
    call = node.calls[0]
    call.answer(b"HTTP/1.1 200 OK\r\n\r\n" + CONTENT, end=False)
    await until(lambda: relay.front.pacing.waiting == 1)
    sender.send(b"a key")
    await settle()
    assert call.received.endswith(b"a key")
    taken = await until(lambda: sender.received.endswith(CONTENT))
    assert LEAST_SECONDS <= taken <= MOST_SECONDS
    before = len(call.received)
    begun = relay.loop.time()
    sender.send(CONTENT)
    taken = await until(lambda: len(call.received) == before + SIZE) - begun
    assert LEAST_SECONDS <= taken <= MOST_SECONDS + BURST_SECONDS  # it begins in debt
    assert call.received.endswith(CONTENT)
    sender.transport.abort()
    await settle()
    assert relay.front.pacing.waiting == 0


@on_relay()
async def test_small_calls_pass_beside_a_long_one(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, long_one, short = relay.attach_node(), relay.connect(), relay.connect()
    long_one.send(get())
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await asyncio.sleep(3)
    for number in range(20):
        short.send(get())
        await settle()
        node.calls[1 + number].answer(reply(b"small"))
        await settle()
        assert short.take().startswith(b"HTTP/1.1 200 ")
    assert len(long_one.received) < SIZE


@on_relay()
async def test_a_long_one_goes_on_beside_small_calls_that_ask_for_more_than_there_is(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, long_one, short = relay.attach_node(), relay.connect(), relay.connect()
    long_one.send(get())
    await settle()
    node.calls[0].answer(reply(CONTENT))
    use, loop = relay.admission.use, asyncio.get_running_loop()
    assert use is not None
    while len(long_one.received) < SIZE:
        assert loop.time() < 2 * SIZE / RATE
        if use.excess(loop.time()) is None:
            short.send(get())
            await settle()
            node.calls[-1].answer(reply(bytes(5000)))
            await settle()
            assert short.take().startswith(b"HTTP/1.1 200 ")
        else:
            await asyncio.sleep(0.02)
    assert len(node.calls) > 100


@on_relay()
async def test_the_control_planes_calls_never_wait(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=1))
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(token=b"control-plane"))
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await settle()
    assert sender.received.endswith(CONTENT)
    assert relay.front.pacing.waiting == 0


@on_relay()
async def test_transfers_share_evenly_whatever_their_windows(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    nodes = [relay.attach_node(), relay.attach_node("vm-2", window_bytes=8 * WINDOW)]
    senders = [relay.connect(), relay.connect()]
    senders[0].send(get())
    senders[1].send(get(host=HOST.replace(b"vm-1", b"vm-2")))
    await settle()
    for node in nodes:
        node.calls[0].answer(reply(CONTENT))
    await asyncio.sleep(14)  # what was under way is paid for
    before = [len(sender.received) for sender in senders]
    await asyncio.sleep(6)
    passed = [len(sender.received) - then for sender, then in zip(senders, before, strict=True)]
    assert passed[0] == pytest.approx(passed[1], rel=0.1)
    assert sum(passed) == pytest.approx(6 * RATE, rel=0.1)
    for sender in senders:
        sender.transport.abort()


@on_relay()
async def test_an_upload_that_waits_for_its_quota_does_not_come_too_slowly(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=400))
    node = relay.attach_node()
    senders = [relay.connect(capacity_bytes=16_384) for _ in range(8)]
    for sender in senders:
        sender.send(get(b"/", b"Content-Length: 40000", method=b"PUT") + CONTENT[:40_000])
    await until(lambda: len(node.calls) == 8 and all(len(call.content) == 40_000 for call in node.calls), 1200.0)
    assert relay.metric("deadlines_total", deadline="body_rate") == 0
    for call in node.calls:
        call.answer(reply(b"taken"))
    await settle()
    assert all(sender.received.endswith(b"taken") for sender in senders)


@on_relay()
async def test_an_upload_that_has_waited_does_not_come_too_slowly_for_bytes_that_do_not_wait(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=2000))
    node, sender, other = relay.attach_node(), relay.connect(), relay.connect()

    async def pass_by(number: int, size_bytes: int) -> None:
        other.send(get())
        await settle()
        node.calls[number].answer(reply(bytes(size_bytes)))
        await settle()

    sender.send(get(b"/", *UPLOAD, method=b"PUT"))
    await settle()
    await pass_by(1, 8000)
    sender.send(b"a")  # waits
    await asyncio.sleep(3)
    assert relay.front.pacing.waiting == 0
    await pass_by(2, 3000)
    await asyncio.sleep(1)
    sender.send(b"b")  # finds a bucket that was empty, and is filled
    await asyncio.sleep(1)
    assert relay.metric("deadlines_total", deadline="body_rate") == 0
    sender.transport.abort()


@on_relay()
async def test_a_connection_whose_upload_waited_at_its_end_takes_the_next_request(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=10_000))
    node, sender = relay.attach_node(), relay.connect()
    request = get(b"/", b"Content-Length: 60000", method=b"PUT") + CONTENT[:60_000]
    for start in range(0, len(request), 8192):
        sender.transport.write(request[start : start + 8192])
    await settle()
    assert relay.front.pacing.waiting == 1
    node.calls[0].answer(reply(b"taken"))
    await settle()
    assert sender.take().endswith(b"taken")
    await asyncio.sleep(8)
    sender.send(get())
    await settle()
    assert len(node.calls) == 2
    sender.transport.abort()


@pytest.mark.parametrize("end", ["sender", "node", "revoked", "link"])
@on_relay()
async def test_a_call_that_ends_while_it_waits_leaves_nothing(relay: SmallRelay, end: str) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await until(lambda: relay.front.pacing.waiting == 1)
    if end == "sender":
        sender.transport.abort()
    elif end == "node":
        node.calls[0].stream.reset()
    elif end == "link":
        node.transport.abort()
    else:
        relay.uses.cut(lambda use, _: None if use.kind.is_link else Refusal(Outcome.REVOKED, "revoked"))
    await settle()
    assert (relay.front.pacing.waiting, held(relay)) == (0, 0)


@on_relay()
async def test_a_sender_that_does_not_read_meanwhile_is_still_bounded_and_then_paced(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE))
    node, sender = relay.attach_node(), LinkSender(relay)
    call = sender.call(request(), greedy=False)
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await asyncio.sleep(20)
    stuck = len(call.received)
    assert stuck <= WINDOW
    assert held(relay) <= WINDOW + 1
    call.greedy = True
    call.stream.consumed(stuck)
    begun = relay.loop.time()
    taken = await until(lambda: len(call.received) > SIZE) - begun
    assert LEAST_SECONDS - WINDOW / RATE <= taken <= MOST_SECONDS
    assert held(relay) == 0
    sender.ends[0].abort()


@on_relay()
async def test_what_has_gone_to_the_node_is_held_no_more_whatever_the_call_waits_for_then(relay: SmallRelay) -> None:
    bound(relay, Quota(bytes_per_second=RATE // 4))
    node, sender = relay.attach_node(window_bytes=16_384), LinkSender(relay)
    node.greedy = False
    sender.call(request(b"/", *UPLOAD, method=b"PUT") + CONTENT)
    await settle()
    session = sender.relay_side.link.session
    assert session.held_bytes() > 40_000
    node.greedy = True
    node.calls[0].take()
    await settle()
    assert (session.held_bytes(), relay.front.pacing.waiting) == (0, 1)
    await until(lambda: len(node.calls[0].content) == SIZE)
    assert node.calls[0].content == CONTENT
    sender.ends[0].abort()


@on_relay()
async def test_when_the_quota_is_lifted_all_go_on_at_once(relay: SmallRelay) -> None:
    quotas = bound(relay, Quota(bytes_per_second=1000))
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get())
    await settle()
    node.calls[0].answer(reply(CONTENT))
    await asyncio.sleep(30)
    assert len(sender.received) < SIZE / 2
    quotas.replace({})
    await asyncio.sleep(0.5)
    assert sender.received.endswith(CONTENT)
