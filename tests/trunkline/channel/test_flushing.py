import asyncio

from tests.support.virtual_time import in_virtual_time
from trunkline.channel.flushing import JOIN_BYTES, LATE_SECONDS, Flusher, write_pieces


class Wire(asyncio.WriteTransport):
    def __init__(self):
        self.writes = []

    def write(self, data):
        self.writes.append(bytes(data))

    def writelines(self, list_of_data):
        self.writes += [bytes(data) for data in list_of_data]


class Output:
    def __init__(self):
        self.flushes = 0
        self.late_flushes = 0

    def flush(self):
        self.flushes += 1

    def flush_late(self):
        self.late_flushes += 1


@in_virtual_time
async def test_everything_that_asks_in_a_tick_is_flushed_once_by_one_callback():
    flusher = Flusher(asyncio.get_running_loop())
    outputs = [Output() for _ in range(3)]
    for output in outputs:
        flusher.request(output)
    assert [output.flushes for output in outputs] == [0, 0, 0]
    await asyncio.sleep(0)
    assert [output.flushes for output in outputs] == [1, 1, 1]
    flusher.request(outputs[0])
    await asyncio.sleep(0)
    assert [output.flushes for output in outputs] == [2, 1, 1]


@in_virtual_time
async def test_late_output_is_flushed_within_its_time_and_once():
    flusher = Flusher(asyncio.get_running_loop())
    outputs = [Output() for _ in range(2)]
    flusher.request_late(outputs[0])
    await asyncio.sleep(LATE_SECONDS / 2)
    flusher.request_late(outputs[1])
    assert [output.late_flushes for output in outputs] == [0, 0]
    await asyncio.sleep(LATE_SECONDS)
    assert [output.late_flushes for output in outputs] == [1, 1]
    await asyncio.sleep(1)
    assert [(output.flushes, output.late_flushes) for output in outputs] == [(0, 1), (0, 1)]


def test_small_pieces_are_joined_and_large_ones_left_alone():
    wire = Wire()
    write_pieces(wire, [b"a", b"b", memoryview(b"c")])
    assert wire.writes == [b"abc"]
    large = bytes(JOIN_BYTES)
    wire.writes.clear()
    write_pieces(wire, [b"head", memoryview(large), b"x", b"y", large, large, b"z"])
    assert wire.writes == [b"head", large, b"xy", large, large, b"z"]
