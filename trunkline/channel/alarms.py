"""When links are woken: one timer of the loop for all of them, in place of one for each.

Theory of operation. Time is cut into slots of `SLOT_SECONDS`. A link that has a deadline is entered in the slot that
ends next after it, and woken at the end of that slot: never early, and late by a slot at most. Of a thousand idle
links each slot has a few, so that a timer is set for each slot and not for each link, and what a link costs is one
entry of a dictionary in place of a timer, its handle and a bound method.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

SLOT_SECONDS: Final = 0.05
NONE: Final = 0
"""The slot of a link that is entered in none."""
_MARGIN_SECONDS: Final = 0.002
"""A loop's timers come up to its resolution early: a millisecond, and the fast loop's nearly two by its own clock."""


class Wakeable(Protocol):
    """Something that has deadlines."""

    def wake(self) -> None:
        """Do what is due."""
        ...


class Alarms:
    """Calls `wake` of everything that was entered in a slot, at the end of that slot."""

    __slots__ = ("_loop", "_slots", "_timer", "_timer_slot", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = loop.time
        """The time of the loop, in seconds."""
        self._slots: dict[int, dict[Wakeable, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_slot = NONE

    def slot_after(self, deadline: float) -> int:
        """The slot to be entered in for a deadline in seconds of the loop's time."""
        return int((deadline + _MARGIN_SECONDS) / SLOT_SECONDS) + 1

    def enter(self, link: Wakeable, slot: int) -> None:
        """Have `link.wake` called at the end of the slot."""
        entered = self._slots.get(slot)
        if entered is None:
            entered = self._slots[slot] = {}
            self._set_timer(slot)
        entered[link] = None

    def leave(self, link: Wakeable, slot: int) -> None:
        """Have it called no more."""
        entered = self._slots.get(slot)
        if entered is not None:
            entered.pop(link, None)
            if not entered:
                del self._slots[slot]

    def _set_timer(self, slot: int) -> None:
        if self._timer is not None:
            if self._timer_slot <= slot:
                return
            self._timer.cancel()
        self._timer_slot = slot
        self._timer = self._loop.call_at(slot * SLOT_SECONDS, self._ring)

    def _ring(self) -> None:
        self._timer = None
        ended = int((self.now() + _MARGIN_SECONDS) / SLOT_SECONDS)
        for slot in sorted(slot for slot in self._slots if slot <= ended):
            for link in self._slots.pop(slot, ()):
                try:
                    link.wake()
                except Exception as error:  # noqa: BLE001 - reported; the others are woken all the same
                    self._loop.call_exception_handler({"message": "a link failed on its alarm", "exception": error})
        if self._slots:
            self._set_timer(min(self._slots))
