"""What is to be kept for a restart goes to the disk in a thread: one that is slow, or full, holds up no call.

What the disk did not take is in force all the same, said to whoever asks, and tried again once a second.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Final

from relay.metrics import RelayMetrics
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

LOOK_SECONDS: Final = 1.0
PATIENCE_SECONDS: Final = 1.0
"""How long a report of what is in force waits for the disk, and after how long that is worth a remark."""


class DiskWatch:
    """Watches what is to be kept for a restart, while it runs."""

    def __init__(
        self,
        keep: Mapping[str, Callable[[], bool]],
        metrics: RelayMetrics,
        log: Logger,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Prepare it; each of `keep`, by the name of what is kept, tries if need be, and says if it is kept.

        They are called in a thread, one after the other.
        """
        self._keep = keep
        self._metrics = metrics
        self._log = log
        self._patience_seconds = patience_seconds
        self._due = asyncio.Event()
        self._unkept: list[str] = []
        self._waiting: list[Callable[[], None]] = []
        self._late = False
        self._keeping = False
        metrics.unkept_files.set(0)

    def due(self) -> None:
        """Hear that there is something to keep."""
        self._due.set()

    def once_kept(self, then: Callable[[], None]) -> None:
        """Call `then` once the disk has taken what is due, or has refused it, or when it has taken its time."""
        if not self._due.is_set() and not self._keeping:
            then()
            return
        self._waiting.append(then)
        asyncio.get_running_loop().call_later(self._patience_seconds, self._too_late, then)

    async def run(self) -> None:
        """Keep for ever what is due, and try again what was not kept."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._due.wait()
            await self.look()

    async def look(self) -> None:
        """Try once, and note what there is to remark."""
        late = asyncio.get_running_loop().call_later(self._patience_seconds, self._is_late)
        waiting, self._keeping = self._waiting[:], True
        self._due.clear()
        try:
            unkept = await in_thread(self._keep_all)
        finally:
            late.cancel()
            self._late = self._keeping = False
        self._metrics.unkept_files.set(len(unkept))
        if unkept and not self._unkept:
            self._log.error("disk.takes_nothing", unkept=unkept, consequence="a restart begins with former ones")
        if self._unkept and not unkept:
            self._log.info("disk.takes_again", kept=self._unkept)
        self._unkept = unkept
        for then in waiting if self._due.is_set() else self._waiting[:]:
            self._too_late(then)

    def remark(self) -> str | None:
        """What an operator should know; None while everything is on the disk."""
        if self._unkept:
            return f"the disk does not take these, which a restart would lose: {', '.join(self._unkept)}"
        return "the disk is slow: what is to be kept for a restart is not on it yet" if self._late else None

    def _keep_all(self) -> list[str]:
        return [name for name, keep in self._keep.items() if not keep()]

    def _is_late(self) -> None:
        self._late = True

    def _too_late(self, then: Callable[[], None]) -> None:
        if then in self._waiting:
            self._waiting.remove(then)
            then()
