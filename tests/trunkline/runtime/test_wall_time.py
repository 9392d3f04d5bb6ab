"""Waiting for the wall clock: on time, and not fooled by it."""

import asyncio

from tests.support.loop_clock import LoopClock
from trunkline.runtime.wall_time import Woken, sleep_unless, sleep_until

VIRTUAL_TIME = True


async def test_it_wakes_when_the_moment_has_come():
    clock = LoopClock()
    moment = clock.now() + 43_200.5
    assert await sleep_until(moment, clock) is Woken.ON_TIME
    assert 0 <= clock.now() - moment < 0.001


async def test_a_moment_that_is_over_is_not_waited_for():
    clock = LoopClock()
    assert await sleep_until(clock.now() - 1, clock) is Woken.ON_TIME
    assert clock.monotonic() == 0.0


async def test_an_event_wakes_it_and_is_cleared():
    clock, wake = LoopClock(), asyncio.Event()
    asyncio.get_running_loop().call_later(1000, wake.set)
    assert await sleep_until(clock.now() + 5000, clock, wake=wake) is Woken.ASKED
    assert clock.monotonic() == 1000
    assert not wake.is_set()


async def test_a_clock_that_is_set_is_noticed_within_a_minute():
    for jump in (90 * 86400.0, -90 * 86400.0):
        clock, began = LoopClock(), asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(30, setattr, clock, "offset", clock.offset + jump)
        assert await sleep_until(clock.now() + 86400, clock) is Woken.JUMPED
        assert clock.monotonic() - began <= 60


async def test_a_clock_that_is_slewed_by_seconds_is_followed():
    clock = LoopClock()
    asyncio.get_running_loop().call_later(30, setattr, clock, "offset", clock.offset + 50)
    assert await sleep_until(clock.now() + 600, clock) is Woken.ON_TIME
    assert clock.monotonic() == 550


async def test_a_pause_ends_within_a_second_of_the_clock_being_set_right():
    clock = LoopClock(0.0)
    asyncio.get_running_loop().call_later(5, setattr, clock, "offset", 1_800_000_000.0)
    await sleep_unless(lambda: clock.now() > 1_700_000_000, 30.0, clock)
    assert 5.0 <= clock.monotonic() <= 6.0


async def test_a_pause_of_which_nothing_comes_has_its_length():
    clock = LoopClock(0.0)
    await sleep_unless(lambda: False, 30.5, clock)
    assert 0 <= clock.monotonic() - 30.5 < 0.001
