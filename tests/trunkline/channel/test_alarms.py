import asyncio

from tests.support.virtual_time import in_virtual_time
from trunkline.channel.alarms import SLOT_SECONDS, Alarms


class Sleeper:
    """Enters itself for times, and writes down when it is woken; `again` is when it asks next."""

    def __init__(self, alarms: Alarms, again: list[float] | None = None) -> None:
        self.alarms = alarms
        self.woken: list[float] = []
        self.again = again or []
        self.slot = 0

    def ask(self, at: float) -> None:
        self.slot = self.alarms.slot_after(at)
        self.alarms.enter(self, self.slot)

    def wake(self) -> None:
        self.woken.append(self.alarms.now())
        if self.again:
            self.ask(self.again.pop(0))


@in_virtual_time
async def test_each_is_woken_once_within_a_slot_of_its_time_and_never_before_it():
    alarms = Alarms(asyncio.get_running_loop())
    times = [8.0, 0.2, 0.21, 3.14159, 0.2499999, 8.0]
    sleepers = [Sleeper(alarms) for _ in times]
    for sleeper, at in zip(sleepers, times, strict=True):
        sleeper.ask(at)
    await asyncio.sleep(20)
    for sleeper, at in zip(sleepers, times, strict=True):
        (woken,) = sleeper.woken
        assert at <= woken <= at + SLOT_SECONDS + 0.002


@in_virtual_time
async def test_who_leaves_is_not_woken():
    alarms = Alarms(asyncio.get_running_loop())
    stays, leaves = Sleeper(alarms), Sleeper(alarms)
    stays.ask(1.0)
    leaves.ask(1.0)
    alarms.leave(leaves, leaves.slot)
    alone = Sleeper(alarms)
    alone.ask(2.0)
    alarms.leave(alone, alone.slot)
    alarms.leave(alone, alone.slot)
    await asyncio.sleep(5)
    assert (len(stays.woken), leaves.woken, alone.woken) == (1, [], [])


@in_virtual_time
async def test_who_is_woken_may_ask_again_for_later_and_for_what_is_past():
    alarms = Alarms(asyncio.get_running_loop())
    sleeper = Sleeper(alarms, again=[0.5, 6.0])
    sleeper.ask(1.0)
    await asyncio.sleep(10)
    first, second, third = sleeper.woken
    assert 1.0 <= first <= second < 1.2
    assert 6.0 <= third < 6.2


@in_virtual_time
async def test_one_that_fails_keeps_nobody_asleep():
    class Failing(Sleeper):
        def wake(self) -> None:
            raise RuntimeError("on purpose")

    loop = asyncio.get_running_loop()
    failures: list[BaseException] = []
    loop.set_exception_handler(lambda _, context: failures.append(context["exception"]))
    alarms = Alarms(loop)
    failing, same, later = Failing(alarms), Sleeper(alarms), Sleeper(alarms)
    for sleeper, at in ((failing, 1.0), (same, 1.0), (later, 2.0)):
        sleeper.ask(at)
    await asyncio.sleep(5)
    assert (len(failures), len(same.woken), len(later.woken)) == (1, 1, 1)


@in_virtual_time
async def test_an_earlier_time_is_not_held_up_by_a_later_one():
    alarms = Alarms(asyncio.get_running_loop())
    late, soon = Sleeper(alarms), Sleeper(alarms)
    late.ask(9.0)
    await asyncio.sleep(0.01)
    soon.ask(0.1)
    await asyncio.sleep(0.2)
    assert (len(soon.woken), late.woken) == (1, [])
