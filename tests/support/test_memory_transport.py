import asyncio

import pytest

from tests.support.memory_transport import Split, memory_pair
from tests.support.virtual_time import VirtualTimeLoop, in_virtual_time


class Peer(asyncio.Protocol):
    """Writes down what it is told."""

    def __init__(self, *, keep_open=False):
        self.keep_open = keep_open
        self.pieces = []
        self.calls = []
        self.lost_with = None

    def connection_made(self, transport):
        self.calls.append("made")

    def data_received(self, data):
        self.pieces.append(data)

    def eof_received(self):
        self.calls.append("eof")
        return self.keep_open

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost_with = exc

    def pause_writing(self):
        self.calls.append("pause")

    def resume_writing(self):
        self.calls.append("resume")

    @property
    def received(self):
        return b"".join(self.pieces)


def _started(*, keep_open=False, **options):
    left, right = memory_pair(asyncio.get_running_loop(), **options)
    peers = Peer(keep_open=keep_open), Peer(keep_open=keep_open)
    left.start(peers[0])
    right.start(peers[1])
    return left, right, *peers


@in_virtual_time
async def test_bytes_arrive_in_order_on_both_sides():
    left, right, one, other = _started()
    left.write(b"to the right")
    left.write(bytearray(b", twice"))
    right.write(memoryview(b"to the left"))
    await asyncio.sleep(0.01)
    assert (one.received, other.received) == (b"to the left", b"to the right, twice")
    left.abort()
    await asyncio.sleep(0.01)


@in_virtual_time
async def test_bytes_are_cut_as_asked():
    for split, count in ((Split.WHOLE, 1), (Split.BYTES, 500)):
        left, _, _, other = _started(split=split)
        left.write(bytes(500))
        await asyncio.sleep(0.01)
        assert len(other.pieces) == count
        left.abort()


def _random_run(seed):
    async def run():
        left, _, _, other = _started(split=Split.RANDOM, delay_seconds=0.02, loss=0.05, seed=seed)
        for number in range(50):
            left.write(bytes([number]) * 100)
        await asyncio.sleep(1)
        return other.pieces, str(other.lost_with)

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(run())


def test_a_seed_repeats_a_run_exactly():
    assert _random_run(1) == _random_run(1)
    assert _random_run(1) != _random_run(2)


@in_virtual_time
async def test_bytes_are_late_by_the_delay():
    left, _, _, other = _started(delay_seconds=3600.0)
    left.write(b"x")
    await asyncio.sleep(3599)
    assert other.pieces == []
    await asyncio.sleep(2)
    assert other.received == b"x"
    left.abort()


@in_virtual_time
async def test_close_delivers_what_was_written_and_closes_both():
    left, right, one, other = _started(delay_seconds=0.1)
    left.write(b"last words")
    left.close()
    left.write(b"ignored")
    assert left.is_closing()
    await asyncio.sleep(1)
    assert other.received == b"last words"
    assert other.calls == ["made", "eof", "lost"]
    assert one.calls == ["made", "lost"]
    assert (one.lost_with, other.lost_with) == (None, None)
    assert right.is_closing()


@in_virtual_time
async def test_half_close_leaves_the_other_direction_open():
    left, right, one, other = _started(keep_open=True)
    left.write_eof()
    with pytest.raises(RuntimeError):
        left.write(b"x")
    await asyncio.sleep(0.01)
    assert other.calls == ["made", "eof"]
    right.write(b"answer")
    right.close()
    await asyncio.sleep(0.01)
    assert one.received == b"answer"
    assert one.calls == ["made", "eof"]
    left.close()
    await asyncio.sleep(0.01)
    assert one.calls[-1] == other.calls[-1] == "lost"


@in_virtual_time
async def test_abort_breaks_the_connection_for_the_peer():
    left, _, one, other = _started(delay_seconds=0.1)
    left.write(b"never arrives")
    left.abort()
    await asyncio.sleep(1)
    assert other.pieces == []
    assert isinstance(other.lost_with, ConnectionResetError)
    assert one.lost_with is None


@in_virtual_time
async def test_writing_to_an_end_that_is_gone_breaks_the_connection():
    left, right, one, _ = _started(keep_open=True)
    right.abort()
    await asyncio.sleep(0.01)
    assert isinstance(one.lost_with, ConnectionResetError)
    left.write(b"x")
    left.close()
    left.abort()
    assert one.calls.count("lost") == 1


@in_virtual_time
async def test_a_lost_connection_delivers_a_part_and_tells_both():
    left, _, one, other = _started(loss=1.0, seed=3)
    left.write(bytes(1000))
    await asyncio.sleep(0.01)
    assert len(other.received) < 1000
    assert isinstance(one.lost_with, ConnectionResetError)
    assert isinstance(other.lost_with, ConnectionResetError)


@in_virtual_time
async def test_a_reader_that_pauses_holds_up_the_writer():
    left, right, one, other = _started()
    left.set_write_buffer_limits(high=1000, low=100)
    right.pause_reading()
    left.write(bytes(1001))
    assert one.calls == ["made", "pause"]
    await asyncio.sleep(1)
    assert other.pieces == []
    assert left.get_write_buffer_size() == 1001
    left.close()
    await asyncio.sleep(1)
    assert one.calls == ["made", "pause"], "what was written is not lost by closing"
    right.resume_reading()
    await asyncio.sleep(1)
    assert len(other.received) == 1001
    assert one.calls[-1] == other.calls[-1] == "lost"


@in_virtual_time
async def test_the_writer_is_resumed_when_the_buffer_is_low():
    left, right, one, _ = _started()
    left.set_write_buffer_limits(high=1000, low=100)
    right.pause_reading()
    left.write(bytes(1001))
    right.resume_reading()
    await asyncio.sleep(0.01)
    assert one.calls == ["made", "pause", "resume"]
    left.abort()


@in_virtual_time
async def test_what_comes_before_the_protocol_waits_for_it():
    left, right = memory_pair(asyncio.get_running_loop())
    left.start(Peer())
    left.write(b"early")
    await asyncio.sleep(0.01)
    other = Peer()
    right.start(other)
    await asyncio.sleep(0.01)
    assert other.received == b"early"
    left.abort()
