"""The pace of calls whose quota of bytes is used up: each goes on by turns, as fast as the quota fills again.

Theory of operation. A call that passes bytes beyond what its sender or its workspace may waits at that party's meter,
and whoever sends it those bytes gets no further credit. Some twenty times a second those who wait at a meter go on by
`TURN_BYTES` each for as much as the meter has, one sender after the other, and the calls of each by turns: so senders
share what there is evenly, however many transfers they make and whatever their windows are, and small calls pass
between them. What passes is charged as it passes, so that a rate is exact over time, whatever was under way. While
bytes are owed a part of the rate is for turns all the same (see `quotas`), so that nobody stands still for long. A call
that waits for its workspace may have to wait for its sender next.

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


Line = OrderedDict[Meter, OrderedDict[Paced, Use]]
"""Those who wait for one meter, by the meters of their senders, each in the order of their turns."""


class Pacing:
    """Those who wait, by the meter that they wait for; one for a process."""

    def __init__(self, loop: asyncio.AbstractEventLoop, monotonic: Callable[[], float]) -> None:
        """Begin without any; `monotonic` is the clock of the meters."""
        self._call_later = loop.call_later
        self._now = monotonic
        self._lines: OrderedDict[Meter, Line] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """How many wait."""
        return sum(len(calls) for line in self._lines.values() for calls in line.values())

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
            line = self._lines.get(meter)
            calls = line.get(use.sender) if line is not None else None
            if line is not None and calls is not None:
                calls.pop(call, None)
                if not calls:
                    del line[use.sender]

    def _enter(self, meter: Meter, call: Paced, use: Use) -> None:
        self._lines.setdefault(meter, OrderedDict()).setdefault(use.sender, OrderedDict())[call] = use

    def _go_round(self) -> None:
        steps = 0
        try:
            steps = self._serve_all(STEPS_AT_ONCE)
        finally:  # whatever one call makes of its turn, the others get theirs
            delay = RUSH_SECONDS if steps <= 0 else TURN_SECONDS
            self._timer = self._call_later(delay, self._go_round) if self._lines else None

    def _serve_all(self, steps: int) -> int:
        """Go round the meters, as far as so many steps lead; returns how many of them are left."""
        now, meters = self._now(), len(self._lines)
        while meters and steps > 0:
            meters -= 1
            meter, line = next(iter(self._lines.items()))
            self._lines.move_to_end(meter)
            steps -= 1 + self._serve(meter, line, now, steps)
            if not line:
                del self._lines[meter]
        return steps

    def _serve(self, meter: Meter, line: Line, now: float, steps: int) -> int:
        """Let those at a meter go on for what it has; returns how many turns that were."""
        room, turns = meter.turn_bytes(now), 0
        while line and room > 0 and turns < steps:
            turns += 1
            call, use = _take_next(line)
            other = use.waits_for(now)
            if other is not None:
                self._enter(other, call, use)
                continue
            size = call.take_turn(TURN_BYTES)
            use.go_on(size)
            room -= size
            if call.paced:
                self._enter(meter, call, use)
        return turns


def _take_next(line: Line) -> tuple[Paced, Use]:
    """Take out whose turn it is; its sender's other calls wait for those of all other senders."""
    sender, calls = line.popitem(last=False)
    call, use = calls.popitem(last=False)
    if calls:
        line[sender] = calls
    return call, use
