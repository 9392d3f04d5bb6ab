"""Sends reports up: one batch at a time, each until it is taken."""

import asyncio
import contextlib

from relay.control_plane.client import ControlPlaneClient
from relay.control_plane.reports import Batch, Reports
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

REPORTS_PATH = "/api/2.0/reports"
# Answers about the batch itself, to which no repetition will get another.
UNACCEPTABLE = frozenset({400, 413, 422})


class ReportSender:
    """Takes batches from `Reports` to the control plane."""

    def __init__(
        self,
        *,
        client: ControlPlaneClient,
        reports: Reports,
        reporter: str,
        interval_seconds: float,
        clock: Clock,
        backoff: Backoff,
        log: Logger,
    ) -> None:
        self._client = client
        self._reports = reports
        self._reporter = reporter
        self._interval_seconds = interval_seconds
        self._clock = clock
        self._backoff = backoff
        self._log = log

    async def run(self) -> None:
        """Send for ever."""
        while True:
            await self._pause()
            while (batch := self._reports.next_batch()) is not None and await self._send(batch):
                pass

    async def flush(self, timeout_seconds: float) -> None:
        """Send what waits, once, at the end of the relay's life; what cannot be sent in time is lost."""
        self._reports.fold()
        try:
            async with asyncio.timeout(timeout_seconds):
                while (batch := self._reports.next_batch()) is not None:
                    await self._post(batch)
        except (ControlPlaneRefused, ControlPlaneUnreachable, TimeoutError) as error:
            self._log.warning("reports.lost", reason=str(error) or "no time was left")

    async def _pause(self) -> None:
        """Wait for the interval, or until something should not wait."""
        urgent = self._reports.urgent
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._interval_seconds):
                await urgent.wait()
        urgent.clear()

    async def _send(self, batch: Batch) -> bool:
        """Send one batch; on failure wait for the backoff, so that the caller may simply go on."""
        try:
            await self._post(batch)
        except (ControlPlaneRefused, ControlPlaneUnreachable) as error:
            if isinstance(error, ControlPlaneRefused) and error.status in UNACCEPTABLE:
                self._log.error("reports.refused", reason=str(error))
                self._reports.abandon(batch)
            else:
                self._log.debug("reports.not_taken", reason=str(error))
            await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))
            return False
        self._backoff.reset()
        return True

    async def _post(self, batch: Batch) -> None:
        document = {
            "reporter": self._reporter,
            "sequence": batch.sequence,
            "items": batch.items,
            "dropped": batch.dropped,
        }
        await self._client.call("POST", REPORTS_PATH, document)
        self._reports.taken(batch)
