import asyncio
import itertools

from relay.bounds.spreading import AT_ONCE, SPREAD_SECONDS, STEP_SECONDS, STEPS, Spreading
from tests.support.virtual_time import in_virtual_time


class Acts:
    """What was done, and when."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.spreading: Spreading[int] = Spreading(self._loop, self._act)
        self.done: list[int] = []
        self.times: list[float] = []

    def _act(self, number: int) -> None:
        self.done.append(number)
        self.times.append(self._loop.time())

    def most_at_once(self) -> int:
        return max(len(list(group)) for _, group in itertools.groupby(self.times))


@in_virtual_time
async def test_a_few_are_done_at_once() -> None:
    acts = Acts()
    acts.spreading.add(range(AT_ONCE))
    assert acts.done == list(range(AT_ONCE))


@in_virtual_time
async def test_many_are_done_a_few_at_a_time_and_in_order() -> None:
    acts = Acts()
    acts.spreading.add(range(20 * AT_ONCE))
    await asyncio.sleep(19.5 * STEP_SECONDS)
    assert acts.done == list(range(20 * AT_ONCE))
    assert acts.most_at_once() == AT_ONCE


@in_virtual_time
async def test_however_many_they_are_the_last_is_done_in_time() -> None:
    acts = Acts()
    acts.spreading.add(range(50_000))
    await asyncio.sleep(SPREAD_SECONDS)
    assert acts.done == list(range(50_000))
    assert acts.most_at_once() == 50_000 // STEPS


@in_virtual_time
async def test_those_that_come_later_are_done_behind_the_others() -> None:
    acts = Acts()
    acts.spreading.add(range(10 * AT_ONCE))
    await asyncio.sleep(STEP_SECONDS)
    acts.spreading.add(range(10 * AT_ONCE, 11 * AT_ONCE))
    await asyncio.sleep(SPREAD_SECONDS)
    assert acts.done == list(range(11 * AT_ONCE))
    assert acts.most_at_once() == AT_ONCE


@in_virtual_time
async def test_what_is_left_can_be_done_now_or_never() -> None:
    acts, dropped = Acts(), Acts()
    acts.spreading.add(range(100))
    dropped.spreading.add(range(100))
    acts.spreading.finish()
    dropped.spreading.drop()
    await asyncio.sleep(SPREAD_SECONDS)
    assert acts.done == list(range(100))
    assert dropped.done == list(range(AT_ONCE))
    dropped.spreading.add([100])
    assert dropped.done[AT_ONCE:] == [100]


@in_virtual_time
async def test_what_is_due_once_more_is_done_once() -> None:
    acts = Acts()
    acts.spreading.add(range(10 * AT_ONCE))
    for _ in range(50):
        acts.spreading.add(range(AT_ONCE, 10 * AT_ONCE))
    assert len(acts.spreading) == 9 * AT_ONCE
    await asyncio.sleep(SPREAD_SECONDS)
    assert acts.done == list(range(10 * AT_ONCE))
    assert acts.most_at_once() == AT_ONCE
    assert len(acts.spreading) == 0


@in_virtual_time
async def test_few_that_come_later_do_not_slow_down_many() -> None:
    acts = Acts()
    acts.spreading.add(range(50_000))
    await asyncio.sleep(SPREAD_SECONDS / 2)
    acts.spreading.add([50_000])
    await asyncio.sleep(SPREAD_SECONDS / 2 + STEP_SECONDS)
    assert acts.done == list(range(50_001))
