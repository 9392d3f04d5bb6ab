import asyncio
import gc
import socket
import sys
import weakref

import pytest

from tests.support.links import Echo, LinkPair, Owner, Recorder, Source, open_recorder, ticks, until
from tests.support.memory_transport import Split, memory_pair
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time
from trunkline.channel.errors import ConnectionLost, ErrorCode
from trunkline.channel.frames import encode_header
from trunkline.channel.limits import CreditBudget, Limits
from trunkline.channel.link import Link, Role

KIB = 1024
SMALL_WINDOWS = Limits(initial_window_bytes=64 * KIB)


def pattern(size):
    return bytes(number * 7 % 251 for number in range(251)) * (size // 251 + 1)


# Calls


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("split", list(Split))
@in_virtual_time
async def test_a_call_there_and_back(compact, split):
    pair = LinkPair(Echo, limits=SMALL_WINDOWS, compact=compact, split=split, delay_seconds=0.01)
    question = pattern(3000 if split is Split.BYTES else 300_000)
    call = Source(question)
    call.begin(pair.client)
    await call.over
    assert call.received == question
    assert call.calls[-1] == "end"
    await ticks()
    await asyncio.sleep(1)
    assert (pair.client.streams, pair.server.streams) == (0, 0)
    await pair.close()


@in_virtual_time
async def test_both_sides_canopen_recorder():
    pair = LinkPair(Echo)
    calls = [Source(b"from the client"), Source(b"from the server")]
    calls[0].begin(pair.client)
    calls[1].begin(pair.server)
    for call in calls:
        await call.over
    assert [bytes(call.received) for call in calls] == [b"from the client", b"from the server"]
    await pair.close()


@in_virtual_time
async def test_a_thousand_streams_at_once():
    pair = LinkPair(Echo, delay_seconds=0.005, limits=SMALL_WINDOWS)
    calls: list[Source] = []

    def open_more():
        while len(calls) < 1000 and pair.client.openable:
            call = Source(pattern(len(calls) * 20 % 5000 + 1)[: len(calls) * 20 % 5000 + 1])
            calls.append(call)
            call.begin(pair.client)
        if len(calls) < 1000:
            pair.client.call_when_openable(open_more)

    open_more()
    assert len(calls) == 256, "as many as may wait for the peer"
    await until(lambda: len(calls) == 1000)
    for call in calls:
        await call.over
        assert call.received == pattern(5000)[: len(call.received)]
        assert len(call.received) > 0
    await asyncio.sleep(1)
    assert (pair.client.streams, pair.server.streams) == (0, 0)
    await pair.close()


@in_virtual_time
async def test_a_thousand_streams_stay_open_at_once():
    pair = LinkPair()
    handlers = []
    for _ in range(1000):
        await until(lambda: pair.client.openable)
        handlers.append(open_recorder(pair.client))
    await asyncio.sleep(1)
    assert pair.client.streams == pair.server.streams == 1000
    for handler in handlers:
        handler.stream.write(b"x", end=True)
    await asyncio.sleep(1)
    assert all(bytes(handler.received) == b"x" for handler in pair.server_owner.handlers)
    await pair.close()


@pytest.mark.parametrize("compact", [True, False])
@in_virtual_time
async def test_an_end_and_a_reset_that_come_at_once_are_both_told(compact):
    pair = LinkPair(compact=compact)
    here = open_recorder(pair.client)
    here.stream.write(b"hello")
    await asyncio.sleep(0.1)
    here.stream.write(b"last", end=True)
    here.stream.reset()
    await asyncio.sleep(0.1)
    assert pair.server_owner.handlers[0].calls == ["data", "data", "end", "lost"]
    await pair.close()


# Mistakes of handlers, and too much held


@in_virtual_time
async def test_a_stream_that_is_not_wanted_is_reset():
    pair = LinkPair(lambda stream: None)
    here = open_recorder(pair.client)
    await asyncio.sleep(0.1)
    assert here.calls == ["lost"]
    await pair.close()


class Broken(Recorder):
    """Fails at one of its calls."""

    fails_at = ""

    def data_received(self, data):
        super().data_received(data)
        assert self.fails_at != "data", "on purpose"

    def end_received(self):
        super().end_received()
        assert self.fails_at != "end", "on purpose"

    def window_opened(self):
        super().window_opened()
        assert self.fails_at != "room", "on purpose"

    def stream_lost(self, error):
        super().stream_lost(error)
        assert self.fails_at != "lost", "on purpose"


@pytest.mark.parametrize("call", ["data", "end", "room", "lost"])
@in_virtual_time
async def test_an_exception_in_a_handler_costs_its_stream_only(call):
    failures = []
    pair = LinkPair(
        Recorder, on_handler_error=lambda stream, error: failures.append((stream and stream.id, str(error)))
    )
    broken = Broken()
    broken.fails_at = call
    broken.stream = pair.client.open(broken)
    good = open_recorder(pair.client)
    broken.stream.write(b"hello")
    good.stream.write(b"hello")
    await asyncio.sleep(0.1)
    there = pair.server_owner.handlers[0].stream
    if call == "room":
        broken.stream.write(bytes(64 * KIB))
        assert broken.stream.send_room_bytes == 0
    elif call == "lost":
        there.reset()
    else:
        there.write(b"x", end=call == "end")
    await asyncio.sleep(0.1)
    assert len(failures) == 1
    assert failures[0][0] == 1
    assert "on purpose" in failures[0][1]
    assert broken.calls[-1] == "lost"
    pair.server_owner.handlers[1].stream.write(b"still here", end=True)
    await asyncio.sleep(0.1)
    assert good.received == b"still here"
    await pair.close()


@in_virtual_time
async def test_an_exception_in_the_owner_costs_the_stream_only():
    failures = []

    def refuse(stream):
        raise ValueError("no idea")

    pair = LinkPair(refuse, on_handler_error=lambda stream, error: failures.append(error))
    here = open_recorder(pair.client)
    await asyncio.sleep(0.1)
    assert here.calls == ["lost"]
    assert [type(failure) for failure in failures] == [ValueError]
    assert not pair.server.lost
    await pair.close()


@in_virtual_time
async def test_a_call_leaves_no_garbage_cycle():
    pair = LinkPair(Echo)
    gc.collect()
    gc.disable()
    try:
        call = Source(b"hello")
        call.begin(pair.client)
        await call.over
        await asyncio.sleep(0.1)
        there = pair.server_owner.handlers.pop()
        assert there.stream.handler is None
        assert call.stream.handler is None
        gone = weakref.ref(there)
        del there
        assert gone() is None
    finally:
        gc.enable()
    await pair.close()


@in_virtual_time
async def test_the_stream_that_holds_most_is_cut_when_the_process_holds_too_much():
    budget = CreditBudget(held_limit_bytes=300 * KIB)
    pair = LinkPair(lambda stream: Recorder(stream, consume=False), budget=budget)
    sizes = (50, 200, 20, 100)
    for size in sizes:
        handler = open_recorder(pair.client)
        handler.stream.write(bytes(size * KIB))
    await asyncio.sleep(0.1)
    assert [handler.calls[-1] for handler in pair.server_owner.handlers] == ["data", "lost", "data", "data"]
    assert pair.server_owner.handlers[1].error.code is ErrorCode.BUDGET_EXCEEDED
    assert budget.held_bytes == 170 * KIB
    await pair.close()
    assert budget.held_bytes == 0


# Time


@in_virtual_time
async def test_two_quiet_links_live_for_hours_on_pings():
    pair = LinkPair(Echo)
    await asyncio.sleep(2 * 3600)
    call = Source(b"still there?")
    call.begin(pair.client)
    await call.over
    assert call.received == b"still there?"
    await pair.close()


@in_virtual_time
async def test_a_two_hour_call_is_not_cut():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"slow question")
    await asyncio.sleep(2 * 3600)
    pair.server_owner.handlers[0].stream.write(b"slow answer", end=True)
    await asyncio.sleep(1)
    assert here.received == b"slow answer"
    await pair.close()


@in_virtual_time
async def test_a_half_open_link_is_noticed_within_twenty_seconds():
    loop = asyncio.get_running_loop()
    owner = Owner()
    link = Link(Role.CLIENT, owner, loop=loop)
    near, far = memory_pair(loop)
    near.start(link)
    far.start(asyncio.Protocol())
    here = open_recorder(link)
    await here.over
    assert loop.time() <= 20.1
    assert here.error.code is ErrorCode.PEER_SILENT
    await link.closed
    await ticks()
    assert [loss.code for loss in owner.losses] == [ErrorCode.PEER_SILENT]


@in_virtual_time
async def test_ping_measures_the_way_there_and_back():
    pair = LinkPair(delay_seconds=0.25)
    assert await pair.client.ping() == pytest.approx(0.5, abs=0.01)
    pair.server_transport.pause_reading()
    with pytest.raises(ConnectionLost) as caught:
        await pair.client.ping()
    assert caught.value.code is ErrorCode.PEER_SILENT
    await pair.close()


@in_virtual_time
async def test_the_way_is_measured_before_anything_waits_on_it():
    pair = LinkPair(Echo, delay_seconds=0.25)
    await asyncio.sleep(1)
    assert (pair.client.rtt_seconds, pair.server.rtt_seconds) == (None, None)
    call = Source(b"so few bytes that no window is in use")
    call.begin(pair.client)
    await call.over
    await asyncio.sleep(0.5)
    assert pair.client.rtt_seconds == pytest.approx(0.5, abs=0.01)
    assert pair.server.rtt_seconds == pytest.approx(0.5, abs=0.01)
    await pair.close()


@in_virtual_time
async def test_windows_grow_on_a_long_fat_pipe():
    budget = CreditBudget()
    pair = LinkPair(limits=SMALL_WINDOWS, delay_seconds=0.05, capacity_bytes=8192 * KIB, budget=budget)
    writer = Source(bytes(40_000_000))
    writer.begin(pair.client)
    started = asyncio.get_running_loop().time()
    handlers = pair.server_owner.handlers
    await until(lambda: bool(handlers) and "end" in handlers[0].calls)
    # 64 KiB a round trip would take 61 s.
    assert asyncio.get_running_loop().time() - started < 4
    assert budget.reserved_bytes == 4096 * KIB - 64 * KIB
    pair.server_owner.handlers[0].stream.end()
    await asyncio.sleep(1)
    assert budget.reserved_bytes == 0
    await pair.close()


# Real loops


def test_a_thousand_idle_links_cost_next_to_nothing():
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    async def run():
        pairs = [LinkPair() for _ in range(500)]
        await asyncio.sleep(20)
        sys.setprofile(count)
        await asyncio.sleep(30)
        sys.setprofile(None)
        for pair in pairs:
            await pair.close()

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(run())
    assert calls / 1000 / 30 < 20, "functions that are called for a link in a second"


@pytest.mark.parametrize("loop_name", ["asyncio", "uvloop"])
def test_over_a_socket(loop_name):
    factory = asyncio.new_event_loop if loop_name == "asyncio" else pytest.importorskip("uvloop").new_event_loop

    async def run():
        loop = asyncio.get_running_loop()
        client, server = (Link(role, Owner(Echo), loop=loop, limits=SMALL_WINDOWS, send_window_bytes=64 * KIB)
                          for role in Role)  # fmt: skip
        left, right = socket.socketpair()
        await loop.create_connection(client.as_protocol, sock=left)
        await loop.create_connection(server.as_protocol, sock=right)
        question = pattern(2_000_000)
        calls = [Source(question) for _ in range(4)]
        for call in calls:
            call.begin(client)
        for call in calls:
            await call.over
            assert call.received == question
        assert await client.drain(30)
        await server.closed

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(run(), 30))


@in_virtual_time
async def test_a_link_adopts_a_transport_and_what_was_received_behind_the_upgrade():
    loop = asyncio.get_running_loop()
    near, far = memory_pair(loop)
    near.start(asyncio.Protocol())
    far.start(asyncio.Protocol())
    owner = Owner()
    link = Link(Role.SERVER, owner, loop=loop)
    link.adopt(near, encode_header(1, 1, 5) + b"hello")
    assert near.get_protocol() is link.as_protocol()
    assert owner.handlers[0].received == b"hello"
    link.abort()
    await link.closed
