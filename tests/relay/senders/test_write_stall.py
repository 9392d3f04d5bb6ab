import asyncio
from collections.abc import Iterator

from relay.senders.write_stall import WriteStall
from tests.support.small_relay import SmallRelay, get, on_relay, reply, settle


@on_relay()
async def test_reader_that_takes_nothing_is_cut(relay: SmallRelay) -> None:
    node, sender = relay.attach_node(), relay.connect()
    sender.send(get(b"/big"))
    await settle()
    sender.transport.pause_reading()
    node.calls[0].answer(reply(b"x" * 1_000_000))
    await asyncio.sleep(relay.limits.write_stall_seconds + 2)
    assert node.calls[0].lost is not None
    assert relay.metric("deadlines_total", deadline="write_stall") == 1


@on_relay()
async def test_reader_that_takes_little_is_not_cut(relay: SmallRelay) -> None:
    sizes: Iterator[int] = iter([1000, 90_000, *range(80_000, 20_000, -10_000), *[20_000] * 5])
    cuts: list[float] = []

    class Transport(asyncio.Transport):
        def get_write_buffer_size(self) -> int:
            return next(sizes)

        def abort(self) -> None:
            cuts.append(relay.loop.time())

    WriteStall(Transport(), relay.front, relay.limits.write_stall_seconds)
    await asyncio.sleep(2.5 * relay.limits.write_stall_seconds)
    assert not cuts
    await asyncio.sleep(relay.limits.write_stall_seconds)
    assert len(cuts) == 1
