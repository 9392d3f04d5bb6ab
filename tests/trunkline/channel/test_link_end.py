import asyncio

import pytest

from tests.support.links import Echo, LinkPair, Owner, Source, open_recorder, ticks
from tests.support.memory_transport import Split, memory_pair
from tests.support.virtual_time import in_virtual_time
from tests.trunkline.channel.test_link import SMALL_WINDOWS, pattern
from trunkline.channel.errors import ConnectionLost, ErrorCode, LimitExceeded
from trunkline.channel.frames import encode_header
from trunkline.channel.link import Link, Role
from trunkline.channel.link_end import PATIENCE

KIB = 1024


@in_virtual_time
async def test_drain_refuses_new_streams_lets_old_ones_finish_and_closes():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"x")
    await asyncio.sleep(0.1)
    draining = asyncio.ensure_future(pair.server.drain(60))
    await asyncio.sleep(1)
    assert pair.client_owner.codes == [0]
    assert pair.client.draining
    assert pair.server.draining
    for link in (pair.client, pair.server):
        with pytest.raises(LimitExceeded) as caught:
            link.open()
        assert caught.value.code is ErrorCode.DRAINING
    pair.server_owner.handlers[0].stream.write(b"finished", end=True)
    await asyncio.sleep(1)
    assert not draining.done()
    here.stream.end()
    assert await draining
    assert here.calls == ["data", "end"]
    assert pair.server_owner.losses == [None]
    await pair.client.closed
    await ticks()
    assert isinstance(pair.client_owner.losses[0], ConnectionLost)


@in_virtual_time
async def test_drain_gives_up_after_its_time():
    pair = LinkPair()
    here = open_recorder(pair.client)
    await asyncio.sleep(0.1)
    started = asyncio.get_running_loop().time()
    assert not await pair.server.drain(30)
    assert asyncio.get_running_loop().time() - started == pytest.approx(30, abs=1)
    await asyncio.sleep(0.1)
    assert here.calls == ["lost"]


@in_virtual_time
async def test_close_sends_what_is_queued():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"last words", end=True)
    pair.client.close()
    pair.client.close()
    await pair.server.closed
    await pair.client.closed
    assert pair.server_owner.handlers[0].received == b"last words"
    assert pair.server_owner.codes == [0]
    assert here.calls == ["lost"]


@in_virtual_time
async def test_a_close_that_cannot_send_is_an_abort_in_the_end():
    pair = LinkPair()
    pair.server_transport.pause_reading()
    open_recorder(pair.client).stream.write(b"x")
    pair.client.close()
    async with asyncio.timeout(10):
        await pair.client.closed
    pair.server.abort()
    await pair.server.closed


@in_virtual_time
async def test_a_drain_tells_that_the_peer_has_not_taken_the_last_bytes():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"x", end=True)
    await asyncio.sleep(0.1)
    pair.client_transport.pause_reading()
    pair.server_owner.handlers[0].stream.write(pattern(64 * KIB), end=True)
    started = asyncio.get_running_loop().time()
    assert not await pair.server.drain(10)
    assert asyncio.get_running_loop().time() - started == pytest.approx(10, abs=1)
    await pair.close()


@in_virtual_time
async def test_a_drain_gives_the_peer_the_time_that_it_has_for_the_last_bytes():
    pair = LinkPair()
    here = open_recorder(pair.client)
    here.stream.write(b"x", end=True)
    await asyncio.sleep(0.1)
    pair.client_transport.pause_reading()
    pair.server_owner.handlers[0].stream.write(pattern(64 * KIB), end=True)
    draining = asyncio.ensure_future(pair.server.drain(30))
    await asyncio.sleep(PATIENCE.taking_seconds - 1)
    pair.client_transport.resume_reading()
    assert await draining
    assert here.received == pattern(64 * KIB)
    assert here.calls[-1] == "end"
    await pair.close()


@in_virtual_time
async def test_a_lost_connection_is_told_to_streams_then_to_the_owner():
    pair = LinkPair()
    here = open_recorder(pair.client)
    waiting = []
    pair.client.call_when_openable(lambda: waiting.append(pair.client.openable))
    await asyncio.sleep(0.1)
    ping = asyncio.ensure_future(pair.client.ping())
    await asyncio.sleep(0)
    pair.client.connection_lost(OSError("unplugged"))
    assert here.error.code is ErrorCode.CONNECTION_LOST
    await ticks()
    assert "unplugged" in str(pair.client_owner.losses[0])
    assert waiting == [True]
    with pytest.raises(ConnectionLost):
        await ping
    with pytest.raises(ConnectionLost):
        await pair.client.ping()
    with pytest.raises(ConnectionLost):
        pair.client.open()
    pair.client_transport.abort()
    await pair.close()


@in_virtual_time
async def test_a_broken_wire_loses_every_stream_and_nothing_else():
    for seed in range(20):
        pair = LinkPair(Echo, limits=SMALL_WINDOWS, split=Split.RANDOM, loss=0.05, seed=seed, delay_seconds=0.01)
        calls = [Source(pattern(200_000)[:200_000]) for _ in range(5)]
        for call in calls:
            call.begin(pair.client)
        for call in calls:
            await call.over
            assert call.received == pattern(200_000)[: len(call.received)]
            assert call.error is not None or len(call.received) == 200_000
        await pair.close()
        assert len(pair.client_owner.losses) <= 1


# Hostile peers


@in_virtual_time
async def test_garbage_gets_a_go_away_and_a_closed_connection():
    loop = asyncio.get_running_loop()
    owner = Owner()
    link = Link(Role.SERVER, owner, loop=loop)
    near, far = memory_pair(loop)
    near.start(link)
    received = []

    class Hostile(asyncio.Protocol):
        def data_received(self, data):
            received.append(data)

    far.start(Hostile())
    far.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await link.closed
    assert b"".join(received) == encode_header(3 << 16, 0, 1)
    assert [loss.code for loss in owner.losses] == [ErrorCode.REMOTE_PROTOCOL]


@in_virtual_time
async def test_a_peer_that_breaks_the_rules_and_reads_nothing_is_cut_off():
    loop = asyncio.get_running_loop()
    owner = Owner()
    link = Link(Role.SERVER, owner, loop=loop)
    near, far = memory_pair(loop)
    near.start(link)
    far.start(asyncio.Protocol())
    far.pause_reading()
    far.write(encode_header(2 << 16 | 1, 0, 0) * 150 + b"\xff" * 12)
    await ticks()
    assert len(owner.losses) == 1, "the owner knows at once"
    async with asyncio.timeout(10):
        await link.closed
    far.abort()


@in_virtual_time
async def test_who_waits_no_more_for_room_is_not_called():
    pair = LinkPair()
    called = []
    first, second = (lambda: called.append("first")), (lambda: called.append("second"))
    pair.client.call_no_more(first)
    pair.client.call_when_openable(first)
    pair.client.call_when_openable(second)
    pair.client.call_no_more(first)
    pair.client.call_no_more(first)
    await asyncio.sleep(0.1)
    assert called == ["second"]
    await pair.close()
