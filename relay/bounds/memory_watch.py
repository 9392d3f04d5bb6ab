"""Shedding: near its memory limit the relay takes no new calls and links, rather than being killed with all it has.

Theory of operation. The resident memory is looked at once a second. Above `SHED_SHARE` of the limit new calls and links
get 503 with Retry-After, and what is under way goes on; below `RESUME_SHARE` they are taken again. What the allocator
holds though it is free is given back to the system while memory is short, so that a peak does not look like use. Where
the system does not say how much the process holds there can be no shedding, and the operator is told.
"""

import gc
from collections.abc import Callable

from relay.metrics import RelayMetrics
from trunkline.runtime.allocator import give_back
from trunkline.runtime.logs import Logger

SHED_SHARE = 0.85
RESUME_SHARE = 0.80
TIDY_LOOKS = 3
"""How many looks there are from one collection of garbage to the next while memory is short; it stops the loop."""


class MemoryWatch:
    """Watches; `look` is to be called about once a second, and `shed` hears when shedding begins and ends."""

    def __init__(
        self,
        limit_bytes: int | None,
        *,
        resident_bytes: Callable[[], int],
        shed: Callable[[bool], None],
        metrics: RelayMetrics,
        log: Logger,
        give_back: Callable[[], None] = give_back,
    ) -> None:
        """Prepare it; without a limit it does nothing."""
        self._limit_bytes = limit_bytes
        self._resident_bytes = resident_bytes
        self._shed = shed
        self._metrics = metrics
        self._log = log
        self._give_back = give_back
        self._shedding = False
        self._unknown = False
        self._looks_until_tidy = 0
        metrics.memory_limit.set(limit_bytes or 0)
        metrics.memory_shedding.set(0)

    def look(self) -> None:
        """Begin or end to shed."""
        if self._limit_bytes is None:
            return
        share = self._share(self._limit_bytes)
        self._note_unknown(not share)
        if share >= RESUME_SHARE and (share >= SHED_SHARE or self._shedding):
            share = self._tidied(share, self._limit_bytes)
        if share >= SHED_SHARE and not self._shedding:
            self._set(True)
            self._log.warning("memory.short", share=round(share, 2), limit_bytes=self._limit_bytes)
        elif share < RESUME_SHARE and self._shedding:
            self._set(False)
            self._log.info("memory.enough", share=round(share, 2))

    def remark(self) -> str | None:
        """What an operator should know; None while there is memory enough."""
        if self._unknown:
            return "how much memory the relay holds is not known: mount /proc, or nothing is shed near the limit"
        return "memory is short: new calls and links are answered 503" if self._shedding else None

    def _note_unknown(self, unknown: bool) -> None:
        if unknown and not self._unknown:
            self._log.warning("memory.unknown", limit_bytes=self._limit_bytes, hint="mount /proc")
        self._unknown = unknown

    def _tidied(self, share: float, limit_bytes: int) -> float:
        """Return the share once what is free has been given back, which is done only now and then."""
        self._looks_until_tidy -= 1
        if self._looks_until_tidy > 0:
            return share
        self._looks_until_tidy = TIDY_LOOKS
        gc.collect()
        self._give_back()
        return self._share(limit_bytes)

    def _share(self, limit_bytes: int) -> float:
        return self._resident_bytes() / limit_bytes

    def _set(self, shedding: bool) -> None:
        self._shedding = shedding
        self._metrics.memory_shedding.set(int(shedding))
        self._shed(shedding)
