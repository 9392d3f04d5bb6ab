import asyncio

from tests.support.links import LinkPair, Recorder, Source, open_recorder, ticks, until
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.flushing import LATE_SECONDS
from trunkline.channel.limits import Limits
from trunkline.channel.link_output import MOST_WAITING
from trunkline.channel.link_stream import TURN_BYTES

KIB = 1024
SMALL_WINDOWS = Limits(initial_window_bytes=64 * KIB)


@in_virtual_time
async def test_a_reader_that_never_reads_holds_its_window_and_stops_nobody():
    pair = LinkPair(lambda stream: Recorder(stream, consume=stream.id != 1), limits=SMALL_WINDOWS)
    stuck = Source(bytes(1_000_000))
    stuck.begin(pair.client)
    others = [Source(bytes(500_000)) for _ in range(5)]
    for other in others:
        other.begin(pair.client)
    await asyncio.sleep(5)
    received = [len(handler.received) for handler in pair.server_owner.handlers]
    assert received == [64 * KIB] + [500_000] * 5
    assert len(stuck.left) == 1_000_000 - 64 * KIB
    pair.server_owner.handlers[0].consume = True
    pair.server_owner.handlers[0].stream.consumed(64 * KIB)
    await asyncio.sleep(5)
    assert len(pair.server_owner.handlers[0].received) == 1_000_000
    await pair.close()


@in_virtual_time
async def test_bulk_writers_take_turns():
    pair = LinkPair(limits=Limits(initial_window_bytes=4096 * KIB))
    pair.server_transport.pause_reading()
    writers = [Source(bytes(4_000_000)) for _ in range(8)]
    for writer in writers:
        writer.begin(pair.client)
    for _ in range(30):
        pair.server_transport.resume_reading()
        await ticks(3)
        pair.server_transport.pause_reading()
        left = [len(writer.left) for writer in writers]
        assert max(left) - min(left) <= 128 * KIB
    assert sum(left) < 8 * 4_000_000
    await pair.close()


@in_virtual_time
async def test_a_small_call_beside_bulk_waits_for_a_bounded_number_of_bytes():
    pair = LinkPair(limits=Limits(initial_window_bytes=4096 * KIB))
    bulk = [Source(bytes(4_000_000)) for _ in range(4)]
    for writer in bulk:
        writer.begin(pair.client)
    pair.server_transport.pause_reading()
    await asyncio.sleep(0.1)
    small = open_recorder(pair.client)
    small.stream.write(b"urgent", end=True)
    before = sum(len(handler.received) for handler in pair.server_owner.handlers)
    pair.server_transport.resume_reading()
    handlers = pair.server_owner.handlers
    await until(lambda: len(handlers) == 5 and bool(handlers[4].received), step_seconds=0)
    assert sum(len(handler.received) for handler in pair.server_owner.handlers) - before <= 512 * KIB
    await pair.close()


@in_virtual_time
async def test_one_flush_writes_turn_after_turn_each_by_itself():
    """What is more than a turn costs no turn of the loop of its own, and no write is larger than a turn."""
    pair = LinkPair(limits=Limits(initial_window_bytes=1024 * KIB))
    turns: list[list[int]] = [[]]
    writelines = pair.client_transport.writelines

    def count(pieces):
        turns[-1].append(sum(map(len, pieces)) // TURN_BYTES)
        writelines(pieces)

    pair.client_transport.writelines = count  # type: ignore[method-assign]
    pair.client_transport.set_write_buffer_limits(high=2048 * KIB)
    for _ in range(2):
        Source(bytes(3 * TURN_BYTES)).begin(pair.client)
    await asyncio.sleep(0)
    turns.append([])
    await asyncio.sleep(0)
    assert turns == [[1] * 5, [1]]
    await asyncio.sleep(0.1)
    assert [len(handler.received) for handler in pair.server_owner.handlers] == [3 * TURN_BYTES] * 2
    await pair.close()


@in_virtual_time
async def test_there_is_no_room_while_the_transport_is_full():
    pair = LinkPair(limits=Limits(initial_window_bytes=1024 * KIB))
    pair.server_transport.pause_reading()
    writer = Source(bytes(1_000_000))
    stream = writer.begin(pair.client)
    await asyncio.sleep(0.1)
    assert stream.send_window > 0
    assert stream.send_room_bytes == 0
    kept = pair.client_transport.get_write_buffer_size() + pair.client.queued_bytes
    assert kept <= 512 * KIB
    pair.server_transport.resume_reading()
    await asyncio.sleep(0.1)
    assert not writer.left
    await pair.close()


@in_virtual_time
async def test_an_end_that_nobody_waits_for_goes_with_other_output_or_soon():
    pair = LinkPair(compact=True)
    first, second = open_recorder(pair.client), open_recorder(pair.client)
    for call in (first, second):
        call.stream.write(b"question")
    await ticks()
    there = pair.server_owner.handlers
    first.stream.end_late()
    await asyncio.sleep(LATE_SECONDS * 0.9)
    assert there[0].calls == ["data"]
    second.stream.write(b"more")
    await ticks()
    assert there[0].calls == ["data", "end"], "it went along"
    second.stream.end_late()
    await asyncio.sleep(LATE_SECONDS)
    assert there[1].calls == ["data", "data"], "it waits for a whole turn of the timer, whenever that began"
    await asyncio.sleep(LATE_SECONDS)
    assert there[1].calls == ["data", "data", "end"]
    await pair.close()


@in_virtual_time
async def test_late_ends_of_calls_that_follow_each_other_closely_never_go_alone():
    pair = LinkPair(compact=True)
    open_recorder(pair.client).stream.end()
    await asyncio.sleep(1)  # the way has been measured
    written: list[int] = []
    write = pair.client_transport.write

    def count(data):
        written.append(len(data))
        write(data)

    pair.client_transport.write = count  # type: ignore[method-assign]
    for _ in range(50):
        call = open_recorder(pair.client)
        call.stream.write(b"question")
        await asyncio.sleep(LATE_SECONDS * 0.4)
        call.stream.end_late()
        await asyncio.sleep(LATE_SECONDS * 0.4)
    assert len(written) == 50
    await asyncio.sleep(2 * LATE_SECONDS)
    assert len(written) == 51
    await pair.close()


@in_virtual_time
async def test_streams_that_are_lost_do_not_wait_for_a_peer_that_does_not_read():
    pair = LinkPair(limits=Limits(max_streams=100, max_unacked_streams=100))
    pair.server_transport.pause_reading()
    filler = Source(bytes(1_000_000))
    filler.begin(pair.client)
    await ticks(3)
    live = [open_recorder(pair.client).stream for _ in range(10)]
    assert [stream.send_room_bytes for stream in live] == [0] * 10
    for _ in range(2 * MOST_WAITING):
        waiting, late = open_recorder(pair.client).stream, open_recorder(pair.client).stream
        assert not waiting.send_room_bytes
        waiting.reset()
        late.end_late()
        late.reset()
    assert len(pair.client._waiting or ()) <= MOST_WAITING
    assert len(pair.client._late_ends) <= MOST_WAITING
    for stream in live:
        stream.end_late()
    pair.server_transport.resume_reading()
    await until(lambda: not any(stream.writable for stream in live))
    await pair.close()
