"""Housekeeping: once a minute, what has run out is forgotten, so that no table grows for ever.

A wall clock that jumps is not believed for a day: by one that is months ahead, revocations would have run out that are
needed again as soon as it is set right. Nor is one that, at the start, is an hour away from all that was last recorded:
so a machine looks that boots with a wrong clock and is given the time later, as does one that was off.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy.ext.asyncio import AsyncSession

from certs.errors import TrustError
from control_plane.forgetting_pieces import forget_all
from control_plane.identity.trust_publisher import TrustPublisher
from control_plane.metrics import ControlPlaneMetrics
from control_plane.outputs.files import OutputFiles
from control_plane.settings import DAY_SECONDS, ControlPlaneSettings
from control_plane.storage import (
    adoptions,
    bootstraps,
    certificates,
    forgetting,
    health,
    join_requests,
    join_tokens,
    kept_outputs,
    last_heard,
    locks,
    nodes,
    reports,
    revocations,
    trust_publications,
    trust_reports,
)
from control_plane.storage.audit import Actor, Happening, append, oldest_time, remove_before
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

PAUSE_SECONDS = 60.0
KEPT_AFTER_EXPIRY_SECONDS = DAY_SECONDS
REPORT_DAYS = 30
LOCAL = Actor("local/housekeeping")
UNCONFIRMED_DAYS = 8
JUMP_SECONDS = 3600.0
DISTRUST_SECONDS = float(DAY_SECONDS)


class Housekeeping:
    """Forgets what has run out."""

    def __init__(
        self,
        *,
        database: Database,
        settings: ControlPlaneSettings,
        trust: TrustPublisher,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        metrics: ControlPlaneMetrics,
        outputs: OutputFiles,
    ) -> None:
        self._trust = trust
        self._metrics = metrics
        self._outputs = outputs
        self._database = database
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._log = log
        self._difference = clock.now() - clock.monotonic()
        self._distrusted_until = float("-inf")

    async def begin(self) -> float:
        """Compare the wall clock with what was last recorded; to be called before this process records anything.

        Returns:
            How long ago, by the clock, that was; 0 where there is none.

        Raises:
            StorageError: the database cannot be read.
        """
        async with self._database.read() as session:
            last_ms = await last_heard.nearest_time(session, int(self._clock.now() * 1000))
        away_seconds = 0.0 if last_ms is None else self._clock.now() - last_ms / 1000
        if abs(away_seconds) >= JUMP_SECONDS:
            self._distrusted_until = self._clock.monotonic() + DISTRUST_SECONDS
            self._log.info(
                "clock.not_confirmed",
                seconds_since_last_record=round(away_seconds),
                consequence="nothing is forgotten for a day",
            )
        return away_seconds

    async def run(self) -> None:
        """Clean up for ever."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS * self._rng.uniform(0.8, 1.2))
            try:
                if self.trusts_the_clock():
                    await self.clean()
            except (StorageError, TrustError) as error:
                self._log.error("housekeeping.failed", reason=str(error))

    def trusts_the_clock(self) -> bool:
        """Whether the wall clock has run like the monotonic one for a day, or since the start."""
        now = self._clock.monotonic()
        moved = self._clock.now() - now - self._difference
        if abs(moved) >= JUMP_SECONDS:
            self._difference += moved
            self._distrusted_until = now + DISTRUST_SECONDS
            self._log.error(
                "clock.jumped",
                seconds=round(moved),
                consequence="nothing is forgotten for a day; see whether it is right",
            )
        return now >= self._distrusted_until

    async def clean(self) -> None:
        """Clean up once, in short transactions of their own."""
        now = self._clock.now()
        expired = int((now - KEPT_AFTER_EXPIRY_SECONDS) * 1000)
        async with self._database.write() as session:
            await bootstraps.remove_expired(session, int(now * 1000))
        async with self._database.write() as session:
            await join_tokens.remove_expired(session, expired)
            await join_requests.remove_expired(session, int(now * 1000))
            await certificates.remove_revoked(session, expired)
            await revocations.remove_expired(session, expired)
        await self._forget_nodes(now)
        kept_days = self._settings.bootstrap.late_renewal_days
        await self._remove_in_pieces(certificates.remove_expired, expired - kept_days * DAY_SECONDS * 1000)
        async with self._database.write() as session:
            await _end_locks(session, now)
            await locks.remove_old(session, _days_before(now, REPORT_DAYS))
        await self._trust.refresh()
        async with self._database.write() as session:
            await trust_publications.remove_old(session, self._trust.sequence)
        await self._forget_commands(now)
        await self._remove_outputs(now)
        await self._remove_in_pieces(health.remove_old, _days_before(now, self._settings.health.history_days))
        await self._forget_audit(now)
        async with self._database.write() as session:
            await reports.remove_old(session, _days_before(now, REPORT_DAYS))
            await adoptions.remove_old(session, _days_before(now, REPORT_DAYS))
        await self._database.scrub()

    async def _forget_nodes(self, now: float) -> None:
        """Forget nodes that never proved to hold their key, and what is left of machines that are no more.

        Whatever the former were issued has expired long ago. Who they are is found while others write, since it is
        looked for among all.
        """
        async with self._database.read() as session:
            unconfirmed = await nodes.unconfirmed(session, _days_before(now, UNCONFIRMED_DAYS))
            reported = await trust_reports.of_gone(session)
        if unconfirmed or reported:
            async with self._database.write() as session:
                await nodes.remove_unconfirmed(session, unconfirmed)
                await trust_reports.remove(session, reported)

    async def _forget_commands(self, now: float) -> None:
        """Forget old commands, and what deleted workspaces have left; others write between the transactions."""
        kept_since_ms = _days_before(now, self._settings.commands.history_days)
        for forget in (
            partial(forgetting.forget_old, before_ms=kept_since_ms, now_ms=int(now * 1000)),
            forgetting.forget_leavings,
        ):
            await forget_all(self._database, self._outputs, forget)

    async def _forget_audit(self, now: float) -> None:
        """Forget old audit events, a day's at once; that it was done is among those that stay."""
        days = self._settings.audit.keep_days
        if days is None:
            return
        before_ms = _days_before(now, days)
        async with self._database.read() as session:
            oldest_ms = await oldest_time(session)
        if oldest_ms is None or oldest_ms >= before_ms - DAY_SECONDS * 1000:
            return
        forgotten, removed = 0, None
        while removed != 0:
            async with self._database.write() as session:
                removed = await remove_before(session, before_ms)
                if not forgotten:
                    append(session, now, LOCAL, Happening("audit.forget", details={"before_time": before_ms}))
            forgotten += removed
        self._log.info("audit.forgotten", events=forgotten, before_time=before_ms // 1000)

    async def _remove_in_pieces(self, remove: Callable[[AsyncSession, int], Awaitable[bool]], before_ms: int) -> None:
        """Remove until `remove` says that there is no more; after days without anybody who did, there is much."""
        more = True
        while more:
            async with self._database.write() as session:
                more = await remove(session, before_ms)

    async def _remove_outputs(self, now: float) -> None:
        """Let go of kept outputs; their rows first, since a row without a file would promise what is not there."""
        settings = self._settings.commands
        before_ms = _days_before(now, settings.keep_output_days)
        async with self._database.read() as session:
            total_bytes = await kept_outputs.total_bytes(session)
        more = True
        while more:
            excess_bytes = total_bytes - settings.keep_output_total_bytes
            async with self._database.write() as session:
                gone = await kept_outputs.remove_old(session, before_ms=before_ms, excess_bytes=excess_bytes)
            await in_thread(self._outputs.remove, gone.outputs)
            total_bytes -= gone.size_bytes
            more = gone.more
        self._metrics.kept_output_bytes.set(total_bytes)


async def _end_locks(session: AsyncSession, now: float) -> None:
    """Note the locks that have expired: relays and nodes have let them end by their own clocks."""
    for lock in await locks.end_expired(session, int(now * 1000)):
        details = {"kind": lock.kind, "id": lock.id, "expire_time": lock.expire_time}
        append(session, now, LOCAL, Happening("lock.expire", resource=lock.lock_id, details=details))


def _days_before(now: float, days: int) -> int:
    return int((now - days * DAY_SECONDS) * 1000)
