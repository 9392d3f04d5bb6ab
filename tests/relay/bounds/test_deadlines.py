import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.bounds.deadlines import NEVER, SWEEP_INTERVAL_SECONDS, Deadlines
from relay.bounds.spreading import AT_ONCE, SPREAD_SECONDS
from tests.support.virtual_time import given_in_virtual_time


class Owner:
    """Something with a deadline, which says when it came."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.reached_at = NEVER

    def deadline_reached(self, now: float) -> None:
        assert self.reached_at == NEVER, "once only"
        assert self.deadline <= now
        self.reached_at = asyncio.get_running_loop().time()
        self.deadline = NEVER


@asynccontextmanager
async def sweeping() -> AsyncIterator[Deadlines]:
    deadlines = Deadlines(asyncio.get_running_loop(), lambda: 1_800_000_000.0)
    deadlines.start()
    try:
        yield deadlines
    finally:
        deadlines.stop()


@given_in_virtual_time(sweeping)
async def test_a_deadline_comes_up_to_an_interval_late_and_never_early(deadlines: Deadlines) -> None:
    owners = [Owner(deadline) for deadline in (0.1, 0.3, 1.0, NEVER)]
    for owner in owners:
        deadlines.watch(owner)
    await asyncio.sleep(2.0)
    for owner, deadline in zip(owners, (0.1, 0.3, 1.0), strict=False):
        assert deadline <= owner.reached_at <= deadline + SWEEP_INTERVAL_SECONDS
    assert owners[3].reached_at == NEVER


def due_at_once(deadlines: Deadlines, count: int) -> list[Owner]:
    owners = [Owner(0.1) for _ in range(count)]
    for owner in owners:
        deadlines.watch(owner)
    return owners


@given_in_virtual_time(sweeping)
async def test_a_thousand_at_once_are_acted_on_a_few_at_a_time(deadlines: Deadlines) -> None:
    owners = due_at_once(deadlines, 1000)
    await asyncio.sleep(SWEEP_INTERVAL_SECONDS + SPREAD_SECONDS)
    times = [owner.reached_at for owner in owners]
    assert max(times) <= SWEEP_INTERVAL_SECONDS + SPREAD_SECONDS
    assert max(times.count(at) for at in set(times)) == 10


@given_in_virtual_time(sweeping)
async def test_a_deadline_that_moves_away_meanwhile_is_none(deadlines: Deadlines) -> None:
    owners = due_at_once(deadlines, 10 * AT_ONCE)
    await asyncio.sleep(SWEEP_INTERVAL_SECONDS)
    still_due = [owner for owner in owners if owner.reached_at == NEVER]
    assert len(still_due) == 9 * AT_ONCE
    moved, forgotten, *others = still_due
    moved.deadline = NEVER
    deadlines.forget(forgotten)
    await asyncio.sleep(SPREAD_SECONDS)
    assert moved.reached_at == forgotten.reached_at == NEVER
    assert all(owner.reached_at < NEVER for owner in others)


@given_in_virtual_time(sweeping)
async def test_nothing_comes_once_it_has_stopped(deadlines: Deadlines) -> None:
    owners = due_at_once(deadlines, 10 * AT_ONCE)
    await asyncio.sleep(SWEEP_INTERVAL_SECONDS)
    deadlines.stop()
    await asyncio.sleep(SPREAD_SECONDS)
    assert sum(owner.reached_at < NEVER for owner in owners) == AT_ONCE
