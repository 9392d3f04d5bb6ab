"""Sends the agent's reports to the control plane, over mTLS with the node's SVID: one batch at a time, until taken.

Every agent takes each trust document at the same moment. So that a fleet does not report in the same moment too, an
agent waits a random part of `spread_seconds` first, unless it has cut something, which few agents have.
"""

import asyncio
import contextlib
import random

from node_agent.identity.control_plane import NEVER_TAKEN, ControlPlane
from node_agent.identity.credentials import Credentials
from node_agent.reports import Batch, Reports
from node_agent.settings import ReportSettings
from trunkline.client.control_plane_answers import ControlPlaneRefused, ControlPlaneUnreachable
from trunkline.runtime.backoff import Backoff
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

REPORTS_PATH = "/api/2.0/nodes/self/reports"
BACKOFF_CAP_SECONDS = 60.0


class ReportSender:
    """Takes batches from `Reports` to the control plane."""

    def __init__(
        self,
        *,
        control_plane: ControlPlane,
        credentials: Credentials,
        reports: Reports,
        reporter: str,
        settings: ReportSettings,
        clock: Clock,
        rng: random.Random,
        log: Logger,
    ) -> None:
        self._control_plane = control_plane
        self._credentials = credentials
        self._reports = reports
        self._reporter = reporter
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._log = log
        self._backoff = Backoff(rng, cap_seconds=BACKOFF_CAP_SECONDS)

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            await self._pause()
            batch = self._reports.next_batch()
            if batch is not None:
                await self._send(batch)

    async def _pause(self) -> None:
        """Wait for news, and then for this agent's turn; without news, for as long as refusals are counted."""
        if await _within(self._settings.interval_seconds, self._reports.waiting):
            await _within(self._rng.uniform(0.0, self._settings.spread_seconds), self._reports.urgent)

    async def _send(self, batch: Batch) -> None:
        """Send one batch until it is taken, or is known never to be."""
        while True:
            try:
                await self._post(batch)
            except (ControlPlaneRefused, ControlPlaneUnreachable) as error:
                if isinstance(error, ControlPlaneRefused) and error.status in NEVER_TAKEN:
                    self._log.warning("reports.refused", reason=str(error))
                    self._reports.abandon(batch)
                    return
                self._log.debug("reports.not_taken", reason=str(error))
                await asyncio.sleep(self._backoff.next_delay_seconds(self._clock.monotonic()))
            else:
                self._backoff.reset()
                return

    async def _post(self, batch: Batch) -> None:
        document = {
            "reporter": self._reporter,
            "sequence": batch.sequence,
            "items": batch.items,
            "dropped": batch.dropped,
        }
        await self._control_plane.call(REPORTS_PATH, document, identity=self._credentials.current.identity)
        self._reports.taken(batch)


async def _within(seconds: float, event: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
    return event.is_set()
