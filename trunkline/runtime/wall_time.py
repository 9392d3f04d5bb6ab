"""Waiting for a moment of the wall clock, which may be set while one waits."""

import asyncio
from collections.abc import Callable
from enum import Enum, auto

from trunkline.runtime.clock import Clock

LONGEST_NAP_SECONDS = 60.0
JUMP_SECONDS = 60.0
LOOK_SECONDS = 1.0


class Woken(Enum):
    """Why a wait has ended."""

    ON_TIME = auto()
    """The moment has come, as time passed."""
    JUMPED = auto()
    """The clock was set, or the machine was suspended: what was planned has to be looked at again."""
    ASKED = auto()
    """Somebody set the event."""


async def sleep_until(moment: float, clock: Clock, *, wake: asyncio.Event | None = None) -> Woken:
    """Sleep until the wall clock shows `moment` (seconds since the epoch), or until it jumps by a minute or more.

    Args:
        moment: when to wake.
        clock: both clocks, looked at once a minute at least; they drift apart only by a jump or a suspended machine.
        wake: an event that ends the wait, and is cleared.
    """
    wake = wake if wake is not None else asyncio.Event()
    began = clock.now() - clock.monotonic()
    while not wake.is_set():
        now = clock.now()
        if abs(now - clock.monotonic() - began) >= JUMP_SECONDS:
            return Woken.JUMPED
        if now >= moment:
            return Woken.ON_TIME
        try:
            async with asyncio.timeout(min(moment - now, LONGEST_NAP_SECONDS)):
                await wake.wait()
        except TimeoutError:
            continue
    wake.clear()
    return Woken.ASKED


async def sleep_unless(met: Callable[[], bool], seconds: float, clock: Clock) -> None:
    """Sleep for so many seconds, or until what depends on the wall clock is met, which is looked at each second.

    A clock that is wrong when a machine starts is often set right some seconds later.
    """
    end = clock.monotonic() + seconds
    while not met() and (left := end - clock.monotonic()) > 0.0:  # noqa: ASYNC110 - nobody tells that a clock was set
        await asyncio.sleep(min(left, LOOK_SECONDS))
