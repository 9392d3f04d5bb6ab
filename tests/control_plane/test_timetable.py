"""A timetable: in order of time, one time a key, and a loop that waits for it is woken by a sooner one."""

import asyncio

from control_plane.timetable import Timetable
from tests.support.loop_clock import LoopClock
from tests.support.virtual_time import in_virtual_time


@in_virtual_time
async def test_the_one_due_first_comes_first() -> None:
    table = Timetable[str](LoopClock())
    for key, delay in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("b2", 2.0)):
        table.set(key, delay)
    assert [await table.next() for _ in range(4)] == ["a", "b", "b2", "c"]
    assert asyncio.get_running_loop().time() == 3.0


@in_virtual_time
async def test_a_key_has_one_time() -> None:
    table = Timetable[str](LoopClock())
    table.set("a", 1.0)
    table.set("b", 2.0)
    table.set("a", 5.0)
    assert (await table.next(), await table.next()) == ("b", "a")
    table.set("a", 5.0)
    table.set("a", 1.0)
    assert await table.next() == "a"
    assert asyncio.get_running_loop().time() == 6.0
    table.set("c", 9.0)
    assert await table.next() == "c", "the time that was replaced is none"


@in_virtual_time
async def test_whoever_waits_is_woken_by_a_sooner_one() -> None:
    table = Timetable[str](LoopClock())
    waiting = asyncio.create_task(table.next())
    await asyncio.sleep(1.0)
    table.set("late", 100.0)
    await asyncio.sleep(1.0)
    table.set("soon", 1.0)
    assert await waiting == "soon"
    assert asyncio.get_running_loop().time() == 3.0
