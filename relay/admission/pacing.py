"""The pace of calls whose quota of bytes is used up: each goes on by turns, as fast as the quota fills again.

Theory of operation. A call that passes bytes beyond what its sender or its workspace may waits at that party's meter,
and whoever sends it those bytes gets no further credit. Some twenty times a second those who wait at a meter go on by
`TURN_BYTES` each, one after the other, for as much as the meter has: so long transfers share what there is evenly,
whatever their windows are, and small calls pass between them. What passes is charged as it passes, so that a rate is
exact over time, whatever was under way. A call that waits for its workspace may have to wait for its sender next.

What one go does is bounded, however many wait; where it has not been round them all, the next one follows soon.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from relay.admission.quotas import Meter, Use

TURN_SECONDS: Final = 0.05
RUSH_SECONDS: Final = 0.005
TURN_BYTES: Final = 16 * 1024
"""What a call goes on by at once: as much as a TLS record, and worth a frame of credit."""
STEPS_AT_ONCE: Final = 256
"""Turns, and meters looked at, before everybody else on the loop has a go: a millisecond's worth or two."""


class Paced(Protocol):
    """A call that waits for its turn."""

    @property
    def paced(self) -> bool:
        """Whether it still waits."""
        ...

    def take_turn(self, most_bytes: int) -> int:
        """Go on by so many bytes, and wait no more if that is more than was held back; returns how many it was."""
        ...


class Pacing:
    """Those who wait, by the meter that they wait for; one for a process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        """Begin without any; `monotonic` is the clock of the meters."""
        self._call_later = loop.call_later
        self._now = monotonic
        self._queues: OrderedDict[Meter, OrderedDict[Paced, Use]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(map(len, self._queues.values()))

    def holds(self, call: Paced, use: Use) -> bool:
        """Have a call wait if its quota of bytes is used up; whether it is."""
        meter = use.used_up(self._now())
        if meter is None:
            return False
        self._enter(meter, call, use)
        if self._timer is None:
            self._timer = self._call_later(TURN_SECONDS, self._go_round)
        return True

    def forget(self, call: Paced, use: Use) -> None:
        """It is over."""
        for meter in use.meters:
            queue = self._queues.get(meter)
            if queue is not None:
                queue.pop(call, None)

    def _enter(self, meter: Meter, call: Paced, use: Use) -> None:
        self._queues.setdefault(meter, OrderedDict())[call] = use

    def _go_round(self) -> None:
        now = self._now()
        meters, steps = len(self._queues), STEPS_AT_ONCE
        while meters and steps > 0:
            meters -= 1
            meter, queue = next(iter(self._queues.items()))
            self._queues.move_to_end(meter)
            steps -= 1 + self._serve(meter, queue, now, steps)
            if not queue:
                del self._queues[meter]
        delay = RUSH_SECONDS if steps <= 0 else TURN_SECONDS
        self._timer = self._call_later(delay, self._go_round) if self._queues else None

    def _serve(self, meter: Meter, queue: OrderedDict[Paced, Use], now: float, steps: int) -> int:
        """Let those at a meter go on for what it has; returns how many turns that were."""
        room, turns = meter.room_bytes(now), 0
        while queue and room > 0 and turns < steps:
            turns += 1
            call, use = queue.popitem(last=False)
            other = use.used_up(now)
            if other is not None:
                self._enter(other, call, use)
                continue
            room -= call.take_turn(TURN_BYTES)
            if call.paced:
                self._enter(meter, call, use)
        return turns
