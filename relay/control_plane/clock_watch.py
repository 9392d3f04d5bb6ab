"""Watching the relay's clock: a wrong one is told once, and again when it is right."""

from relay.metrics import RelayMetrics
from trunkline.client.clock_offset import ClockOffset
from trunkline.runtime.logs import Logger


class ClockWatch:
    """Tells of the offset that the control plane's answers show."""

    def __init__(self, offset: ClockOffset, metrics: RelayMetrics, log: Logger) -> None:
        self._offset = offset
        self._log = log
        self._told = False
        metrics.clock_offset.set_function(lambda: offset.seconds or 0.0)

    def look(self) -> None:
        """Say what has changed since the last look."""
        complaint = self._offset.complaint()
        if complaint is not None and not self._told:
            self._log.error("clock_skew", reason=complaint)
        elif complaint is None and self._told:
            self._log.info("clock.right_again", offset_seconds=self._offset.seconds)
        self._told = complaint is not None
