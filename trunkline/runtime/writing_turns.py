"""Connections that can be written to again: of many at once a few are written to in a turn of the loop.

Theory of operation. What a peer has not taken waits with its connection, up to some 130 KiB, and the kernel takes all
of it in one go, half a millisecond's worth, once the peer has taken some of what the kernel had. When many come to that
at the same instant they would all be written to in one turn, and a small call wait for all of them. So writing takes
`TURN_SECONDS` of a turn, and one connection longer at most. Whoever is left over is not watched, lest the loop tell of
it again and again, and is written to in the next turns, in order; in between what can be read is read.

The seconds of turns that are not full add up: their end need not be known, which would cost each of them something, and
one that follows may be shorter.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

TURN_SECONDS: Final = 0.00025


class WritingTurns:
    """Stands before `add_writer` and `remove_writer` of a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with the loop's own two, as they are now; `clock` tells seconds, and is never set back."""
        self._add = loop.add_writer
        self._remove = loop.remove_writer
        self._call_soon = loop.call_soon
        self._clock = clock
        self._spent_seconds = 0.0
        self._next_asked = False
        self._left_over: dict[int, tuple[Any, Callable[[], object]]] = {}

    def add_writer(self, descriptor: Any, callback: Callable[..., object], *arguments: Any) -> None:
        """As the loop's: have the callback called, in its turn, whenever the descriptor can be written to."""

        def write() -> None:
            began = self._clock()
            try:
                callback(*arguments)
            finally:
                self._spend(self._clock() - began)

        self._watch(descriptor, write)

    def remove_writer(self, descriptor: Any) -> bool:
        """As the loop's: have it called no more; returns whether it would have been."""
        left_over = self._left_over.pop(_number(descriptor), None) is not None
        return self._remove(descriptor) or left_over

    def _watch(self, descriptor: Any, write: Callable[[], object]) -> None:
        self._left_over.pop(_number(descriptor), None)
        self._add(descriptor, self._writable, descriptor, write)

    def _writable(self, descriptor: Any, write: Callable[[], object]) -> None:
        if self._spent_seconds < TURN_SECONDS:
            write()
            return
        self._remove(descriptor)
        self._left_over[_number(descriptor)] = (descriptor, write)

    def _spend(self, seconds: float) -> None:
        self._spent_seconds += seconds
        if self._spent_seconds >= TURN_SECONDS:
            self._ask_for_next()

    def _ask_for_next(self) -> None:
        if not self._next_asked:
            self._next_asked = True
            self._call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._next_asked = False
        self._spent_seconds = 0.0
        try:
            while self._left_over and self._spent_seconds < TURN_SECONDS:
                descriptor, write = next(iter(self._left_over.values()))
                self._watch(descriptor, write)
                write()
        finally:
            if self._left_over:  # also where one has failed
                self._ask_for_next()


def _number(descriptor: Any) -> int:
    return descriptor if isinstance(descriptor, int) else descriptor.fileno()
