import asyncio

import pytest

from tests.support.links import Owner, ticks, until
from tests.support.memory_transport import Split, memory_pair
from tests.support.virtual_time import in_virtual_time
from trunkline.channel.errors import ConnectionLost, ErrorCode
from trunkline.channel.frames import DATA, FIN, OPENING_WEIGHT, PING, RST, SYN, WINDOW_UPDATE, encode_header
from trunkline.channel.link import Link, Role
from trunkline.channel.link_session import TURN_FRAMES

OPENED_A_TURN = TURN_FRAMES // OPENING_WEIGHT + 1
STREAMS = 1000
WATCHED_TURNS = 100


class Watched:
    """A link, the raw end of its connection, and how many streams were offered in each turn of the loop."""

    def __init__(self, split=Split.WHOLE):
        self._loop = asyncio.get_running_loop()
        self.owner = Owner()
        self.link = Link(Role.SERVER, self.owner, loop=self._loop)
        self.near, self.far = memory_pair(self._loop, split=split)
        self.near.start(self.link)
        self.received = bytearray()
        self.far.start(_Keeping(self.received))
        self.offered_in_turns = []
        self._count()

    @property
    def offered(self):
        return len(self.owner.handlers)

    def _count(self):
        self.offered_in_turns.append(self.offered - sum(self.offered_in_turns))
        if len(self.offered_in_turns) < WATCHED_TURNS:  # for as long as somebody counts, no time passes
            self._loop.call_soon(self._count)

    async def until_offered(self, count):
        await until(lambda: self.offered >= count, step_seconds=0)

    async def end(self):
        self.link.abort()
        self.far.abort()
        await self.link.closed


class _Keeping(asyncio.Protocol):
    def __init__(self, received):
        self._received = received

    def data_received(self, data):
        self._received += data


def opened(numbers):
    """A stream for each number, which is also what comes on it, and its end."""
    return b"".join(
        encode_header(DATA | SYN | FIN, 2 * number + 1, len(content)) + content
        for number in numbers
        for content in [str(number).encode()]
    )


def received(handlers):
    return [bytes(handler.received) for handler in handlers]


def numbers(count):
    return [str(number).encode() for number in range(count)]


@in_virtual_time
async def test_a_burst_of_streams_leaves_turns_to_others():
    watched = Watched()
    watched.far.write(opened(range(STREAMS)))
    await watched.until_offered(STREAMS)
    assert max(watched.offered_in_turns) == OPENED_A_TURN
    assert received(watched.owner.handlers) == numbers(STREAMS)
    await watched.end()


@in_virtual_time
async def test_a_burst_of_streams_that_are_reset_at_once_leaves_turns_too():
    watched = Watched()
    ids = range(1, 2 * STREAMS, 2)
    watched.far.write(
        b"".join(encode_header(WINDOW_UPDATE | SYN, i, 0) + encode_header(WINDOW_UPDATE | RST, i, 0) for i in ids)
        + opened([STREAMS])
    )
    turns = 0
    while not watched.owner.handlers or not watched.owner.handlers[-1].received:
        await asyncio.sleep(0)
        turns += 1
    assert turns > STREAMS * (OPENING_WEIGHT + 1) // TURN_FRAMES
    await watched.end()


@in_virtual_time
async def test_what_few_frames_bring_is_taken_in_at_once():
    watched = Watched()
    watched.link.data_received(opened(range(64)) + encode_header(WINDOW_UPDATE, 1, 5000) * 60)
    assert watched.offered == 64
    assert watched.near.is_reading()
    await watched.end()


@in_virtual_time
async def test_meanwhile_the_connection_is_not_read_and_afterwards_it_is():
    watched = Watched()
    watched.link.data_received(opened(range(STREAMS)))
    await ticks(2)
    assert not watched.near.is_reading()
    await watched.until_offered(STREAMS)
    await ticks(2)
    assert watched.near.is_reading()
    watched.far.write(opened([STREAMS]))
    await watched.until_offered(STREAMS + 1)
    await watched.end()


@pytest.mark.parametrize("size", [1, 12, 1000])
@in_virtual_time
async def test_what_comes_before_the_connection_is_paused_waits_behind_the_rest(size):
    watched = Watched()
    first, second = opened(range(STREAMS)), opened(range(STREAMS, STREAMS + 300))
    cut = len(first) - 5
    watched.link.data_received(first[:cut])
    second = first[cut:] + second
    for start in range(0, len(second), size):
        watched.link.data_received(second[start : start + size])
    await watched.until_offered(STREAMS + 300)
    assert received(watched.owner.handlers) == numbers(STREAMS + 300)
    await watched.end()


@in_virtual_time
async def test_a_transport_that_brings_too_much_meanwhile_is_paused_at_once():
    watched = Watched()
    watched.link.data_received(opened(range(STREAMS)))
    content = bytes(200_000)
    for _ in range(5):
        watched.link.data_received(encode_header(DATA, 1, len(content)) + content)
    assert watched.near.is_reading()
    watched.link.data_received(encode_header(DATA, 1, len(content)) + content)
    assert not watched.near.is_reading()
    await watched.end()


@in_virtual_time
async def test_what_a_peer_sent_before_its_goodbye_is_taken_in_to_the_end():
    watched = Watched()
    watched.far.write(opened(range(STREAMS)))
    watched.far.close()
    await watched.link.closed
    assert received(watched.owner.handlers) == numbers(STREAMS)
    assert max(watched.offered_in_turns) == OPENED_A_TURN
    await ticks()
    assert [type(loss) for loss in watched.owner.losses] == [ConnectionLost]
    assert not watched.link.streams
    await watched.end()


@in_virtual_time
async def test_a_lost_connection_is_lost_once_the_rest_is_taken_in():
    watched = Watched()
    watched.link.data_received(opened(range(STREAMS)))
    watched.link.connection_lost(OSError("unplugged"))
    assert not watched.link.lost
    await watched.link.closed
    await ticks()
    assert watched.offered == STREAMS
    assert "unplugged" in str(watched.owner.losses[0])
    assert len(watched.owner.losses) == 1
    await watched.end()


@pytest.mark.parametrize("how", ["close", "abort"])
@in_virtual_time
async def test_a_link_that_is_ended_here_drops_the_rest(how):
    watched = Watched()
    watched.far.write(opened(range(STREAMS)))
    await watched.until_offered(OPENED_A_TURN + 1)
    getattr(watched.link, how)()
    offered = watched.offered
    async with asyncio.timeout(1):
        await watched.link.closed
    await ticks(20)
    assert watched.offered == offered < STREAMS
    assert watched.owner.losses == [None]
    await watched.end()


@pytest.mark.parametrize("how", ["close", "abort"])
@in_virtual_time
async def test_a_link_that_is_ended_here_after_its_connection_was_lost_is_closed(how):
    watched = Watched()
    watched.link.data_received(opened(range(STREAMS)))
    watched.link.connection_lost(None)
    getattr(watched.link, how)()
    async with asyncio.timeout(1):
        await watched.link.closed
    await ticks(20)
    assert watched.offered == OPENED_A_TURN
    assert watched.owner.losses == [None]
    await watched.end()


@in_virtual_time
async def test_a_mistake_in_the_rest_ends_the_link_with_a_goodbye():
    watched = Watched()
    watched.far.write(opened(range(STREAMS)) + b"\xff" * 12 + opened([STREAMS]))
    async with asyncio.timeout(1):
        await watched.link.closed
    assert STREAMS - OPENED_A_TURN < watched.offered <= STREAMS
    assert bytes(watched.received).endswith(encode_header(3 << 16, 0, 1))
    assert [loss.code for loss in watched.owner.losses] == [ErrorCode.REMOTE_PROTOCOL]
    await watched.end()


@in_virtual_time
async def test_a_flood_of_pings_is_ended_at_its_bound_all_the_same():
    watched = Watched()
    watched.far.write(encode_header(PING | SYN, 0, 7) * 10_000)
    async with asyncio.timeout(1):
        await watched.link.closed
    assert [loss.code for loss in watched.owner.losses] == [ErrorCode.RATE_EXCEEDED]
    await watched.end()


@pytest.mark.parametrize("split", [Split.RANDOM, Split.BYTES])
@in_virtual_time
async def test_any_split_of_a_burst_gives_the_same(split):
    watched = Watched(split)
    watched.far.write(opened(range(300)))
    await until(lambda: watched.offered == 300 and watched.owner.handlers[-1].calls[-1:] == ["end"])
    assert received(watched.owner.handlers) == numbers(300)
    assert {handler.calls.count("end") for handler in watched.owner.handlers} == {1}
    await watched.end()
