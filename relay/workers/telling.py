"""What a worker tells its parent: reports, what was cut, what quotas were used, and once a second how it is."""

import asyncio
from typing import Any

from relay.control_plane.reports import Reports
from relay.links.registry import Spawn
from relay.workers.shared_quotas import TELL_SECONDS, SharedQuotas
from relay.workers.siblings import Tell
from trunkline.runtime.lifecycle import Lifecycle

STATE_SECONDS = 1.0
DRAINING_STATE_SECONDS = 0.25


class Telling:
    """Tells the parent, as things happen and at intervals."""

    def __init__(
        self,
        tell: Tell,
        *,
        reports: Reports,
        reports_seconds: float,
        quotas: SharedQuotas,
        lifecycle: Lifecycle,
    ) -> None:
        """Prepare; `reports_seconds` is how often reports are handed over, and `lifecycle` knows how the worker is."""
        self._tell = tell
        self._reports = reports
        self._reports_seconds = reports_seconds
        self._quotas = quotas
        self._lifecycle = lifecycle

    def start(self, spawn: Spawn) -> None:
        """Begin with what is told at intervals, in tasks of their own."""
        spawn(self._keep_telling_state())
        spawn(self._keep_telling_used())
        spawn(self._keep_telling_reports())

    def finish(self) -> None:
        """Tell all that has not been told, and how the worker was in the end."""
        self._reports.fold()
        self._hand_over_reports()
        self.tell_state()

    def report(self, kind: str, **members: Any) -> None:
        """Report an event; which document is in force is the parent's to report, once it is everywhere."""
        if kind != "trust":
            self._reports.add(kind, **members)
        elif "cut" in members:
            self._tell("adopted", sequence=members["sequence"], cut=members["cut"], cuts=members["cuts"])

    def tell_state(self) -> None:
        """Tell what the worker waits for, what an operator should know of it, and what is left if it drains."""
        lifecycle = self._lifecycle
        self._tell("state", unmet=lifecycle.unmet_conditions(), remarks=lifecycle.remarks(), left=lifecycle.left())

    async def _keep_telling_state(self) -> None:
        while True:
            self.tell_state()
            await asyncio.sleep(DRAINING_STATE_SECONDS if self._lifecycle.draining else STATE_SECONDS)

    async def _keep_telling_used(self) -> None:
        while True:
            await asyncio.sleep(TELL_SECONDS)
            used = self._quotas.used()
            if used:
                self._tell("used", used=used)

    async def _keep_telling_reports(self) -> None:
        while True:
            await asyncio.sleep(self._reports_seconds)
            self._hand_over_reports()

    def _hand_over_reports(self) -> None:
        while (batch := self._reports.next_batch()) is not None:
            self._tell("reports", items=batch.items, dropped=batch.dropped)
            self._reports.handed_over(batch)
