"""What the disk did not take: it is in force all the same, said to whoever asks, and tried again once a second."""

from collections.abc import Callable, Mapping

from relay.metrics import RelayMetrics
from trunkline.runtime.logs import Logger


class DiskWatch:
    """Watches what is to be kept for a restart; `look` is to be called about once a second."""

    def __init__(self, keep: Mapping[str, Callable[[], bool]], metrics: RelayMetrics, log: Logger) -> None:
        """Prepare it; each of `keep`, by the name of what is kept, tries again if need be, and says if it is kept."""
        self._keep = keep
        self._metrics = metrics
        self._log = log
        self._unkept: list[str] = []
        metrics.unkept_files.set(0)

    def look(self) -> None:
        """Try again, and note what there is to remark."""
        unkept = [name for name, keep in self._keep.items() if not keep()]
        self._metrics.unkept_files.set(len(unkept))
        if self._unkept and not unkept:
            self._log.info("disk.takes_again", kept=self._unkept)
        self._unkept = unkept

    def remark(self) -> str | None:
        """What an operator should know; None while everything is on the disk."""
        if not self._unkept:
            return None
        return f"the disk does not take these, which a restart would lose: {', '.join(self._unkept)}"
