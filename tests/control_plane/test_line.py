"""Who waits for a turn, in which order, for how long, and who is told to come again."""

import asyncio
import random

import pytest

from control_plane.line import RETRY_SECONDS, WAIT_SECONDS, Line, LineFull
from tests.support.virtual_time import in_virtual_time


def line_of(most_at_once: int, most_waiting: int) -> tuple[Line, list[float]]:
    told: list[float] = []
    return Line(most_at_once=most_at_once, most_waiting=most_waiting, rng=random.Random(1), told=told.append), told


@in_virtual_time
async def test_all_have_their_turn_in_order_and_never_more_than_so_many_at_once() -> None:
    line, told = line_of(2, 36)
    under_way, most, order = 0, 0, []

    async def join(number: int) -> None:
        nonlocal under_way, most
        async with line.turn():
            order.append(number)
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.1)
            under_way -= 1

    await asyncio.gather(*(join(number) for number in range(20)))
    assert (order, most) == (list(range(20)), 2)
    assert (max(told), told[-1]) == (18, 0)


@in_virtual_time
async def test_beyond_the_line_they_are_told_to_come_again_at_different_times() -> None:
    line, _ = line_of(1, 6)
    loop = asyncio.get_running_loop()

    async def join() -> int | None:
        try:
            async with line.turn():
                await asyncio.sleep(1.0)
        except LineFull as full:
            assert loop.time() == 0.0
            return full.retry_after_seconds
        return None

    said = await asyncio.gather(*(join() for _ in range(104)))
    later = [seconds for seconds in said if seconds is not None]
    first, last = RETRY_SECONDS
    assert (len(later), min(later) > first - 1, max(later) <= last) == (100, True, True)
    assert len(set(later)) > (last - first) / 2


@in_virtual_time
async def test_nobody_waits_for_longer_than_is_of_use_and_the_next_has_the_place() -> None:
    line, told = line_of(1, 3)
    loop = asyncio.get_running_loop()
    async with line.turn():
        with pytest.raises(LineFull):
            async with line.turn():
                pass
        assert loop.time() == WAIT_SECONDS
    async with line.turn():
        assert told[-1] == 0


@in_virtual_time
async def test_a_turn_that_fails_or_is_given_up_leaves_its_place() -> None:
    line, told = line_of(1, 3)
    with pytest.raises(ValueError, match="no machine"):
        async with line.turn():
            raise ValueError("no machine")
    async with line.turn():
        waiting = asyncio.ensure_future(line.turn().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait({waiting})
    async with line.turn():
        assert told[-1] == 0


@in_virtual_time
async def test_one_address_leaves_half_of_the_line_to_others() -> None:
    line, _ = line_of(1, 20)

    async def join(source: str) -> bool:
        try:
            async with line.turn(source):
                await asyncio.sleep(0.1)
        except LineFull:
            return False
        return True

    flood = [join("192.0.2.1") for _ in range(100)]
    others = [join(f"198.51.100.{number}") for number in range(10)]
    joined = await asyncio.gather(*flood, *others)
    assert (sum(joined[:100]), sum(joined[100:])) == (11, 10)
