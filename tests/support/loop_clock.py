"""The running loop's time as both clocks, for tests in virtual time; the wall clock can be set by `offset`."""

import asyncio


class LoopClock:
    """A clock of the loop that runs when it is made."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._loop = asyncio.get_running_loop()
        self.offset = now - self._loop.time()

    def now(self) -> float:
        return self._loop.time() + self.offset

    def monotonic(self) -> float:
        return self._loop.time()
