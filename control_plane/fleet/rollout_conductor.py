"""The conductor: lets the commands of rollouts go when it is their turn, and stops rollouts that go wrong.

Theory of operation. A rollout is looked at when something about its submission has changed, when a pause is over, and
every few seconds. A look is one transaction: it counts, decides (`rollouts.decide`), and writes the decision, so that
a command which is not held was let go by a decision that is on the disk. The dispatcher hears of it afterwards; what
it did not hear of before a crash it takes up at its start.

That holds as long as nodes remember what they ran: a database that was restored from an old backup lets commands go
again, and a node that has forgotten one would run it twice. So what was not recorded for that long is not gone on with.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.fleet.dispatcher import Dispatcher
from control_plane.fleet.rollouts import Decision, Plan, WaveCount, decide
from control_plane.fleet.stopping import stop
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.metrics import ControlPlaneMetrics
from control_plane.settings import DAY_SECONDS, CommandSettings
from control_plane.storage import submissions
from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.beginning import begun, look_for_ever
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import StateCount, SubmissionKey
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

RECHECK_SECONDS = 5.0
STORAGE_RETRY_SECONDS = 1.0
FAULT_RETRY_SECONDS = 30.0
LOOK_SECONDS = 30.0
REMEMBERED_SECONDS = float(DAY_SECONDS)
"""For so long agents remember commands, unless their settings say less (`commands.retention_seconds`)."""
OUTDATED = "nothing was recorded for a day: the control plane was off, or restored from a backup; submit the rest anew"
CONDUCTOR = Actor("local/rollouts")
_NOT_LOOKED_FOR = "rollouts.not_looked_for"


@dataclass(frozen=True, slots=True)
class _Looked:
    """What came of a look: commands to see to, whether the rollout is over, and when to look again at the latest."""

    due: Sequence[Command]
    over: bool = False
    changed: bool = False
    wake_time: int | None = None


class RolloutConductor:
    """Runs all rollouts of the control plane."""

    def __init__(
        self,
        *,
        database: Database,
        news: SubmissionNews,
        dispatcher: Dispatcher,
        settings: CommandSettings,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        log: Logger,
    ) -> None:
        self._database = database
        self._news = news
        self._dispatcher = dispatcher
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._log = log
        self._due: dict[SubmissionKey, float] = {}

    async def stop_outdated(self, silent_seconds: float) -> None:
        """Stop all rollouts, if nothing was recorded for so long that nodes may have forgotten what they ran meanwhile.

        To be called before `run`. What nodes have goes on; no other node hears of the command.

        Raises:
            StorageError: the database does not do it.
        """
        if silent_seconds < REMEMBERED_SECONDS:
            return
        async with self._database.write() as session:
            for key in await submissions.open_rollouts(session):
                submission = await submissions.lock(session, key)
                if submission is not None and submission.stop_reason is None:
                    self._note_stop(session, key, OUTDATED)
                    await stop(session, submission, OUTDATED, running=False)

    async def run(self) -> None:
        """Take up what a previous process left, and conduct for ever."""
        await begun(self._take_up, self._log, _NOT_LOOKED_FOR)
        async with asyncio.TaskGroup() as group:
            looking = look_for_ever(self._take_up, LOOK_SECONDS, self._log, _NOT_LOOKED_FOR)
            group.create_task(looking, name="trunkline-rollout-look")
            while True:
                self._metrics.rollouts_open.set(len(self._due))
                for key in await self._next_due():
                    await self._attend(key)

    def begin(self, key: SubmissionKey) -> None:
        """Conduct a rollout that has just been recorded."""
        self._due[key] = 0.0
        self._news.tell(key)

    async def _take_up(self) -> None:
        """Take up rollouts that are on record, also those of which it was not heard here that they were recorded."""
        async with self._database.read() as session:
            for key in await submissions.open_rollouts(session):
                if key not in self._due:
                    self.begin(key)

    async def _next_due(self) -> list[SubmissionKey]:
        while True:
            now = self._clock.monotonic()
            due = [key for key, time in self._due.items() if time <= now]
            pause = min(self._due.values()) - now if self._due else None
            for key in await self._news.take(0.0 if due else pause):
                if key in self._due and key not in due:
                    due.append(key)
            if due:
                return due

    async def _attend(self, key: SubmissionKey) -> None:
        try:
            looked = await self._look(key)
        except StorageError as error:
            self._log.error("rollout.not_recorded", submission_id=key.submission_id, reason=str(error))
            self._due[key] = self._clock.monotonic() + STORAGE_RETRY_SECONDS
            return
        except Exception as error:  # noqa: BLE001 - a fault of ours with one rollout must not stop all others
            self._log.error("rollout.look_failed", submission_id=key.submission_id, exc_info=error)
            self._due[key] = self._clock.monotonic() + FAULT_RETRY_SECONDS
            return
        for command in looked.due:
            self._dispatcher.kick(CommandKey(command.workspace_id, command.command_id), command.node_id)
        if looked.changed:
            self._news.tell(key)
        if looked.over:
            self._due.pop(key, None)
        else:
            self._due[key] = self._clock.monotonic() + self._pause_seconds(looked)

    def _pause_seconds(self, looked: _Looked) -> float:
        if looked.wake_time is None:
            return RECHECK_SECONDS
        return min(RECHECK_SECONDS, max(0.0, looked.wake_time / 1000 - self._clock.now()))

    async def _look(self, key: SubmissionKey) -> _Looked:
        now_ms = int(self._clock.now() * 1000)
        overdue_before_ms = now_ms - int(self._settings.call_timeout_seconds * 1000)
        silent_before_ms = now_ms - self._settings.delivery_seconds * 1000
        async with self._database.write() as session:
            submission = await submissions.lock(session, key)
            if submission is None or submission.rollout is None or not submission.rollout_open:
                return _Looked([], over=True)
            counted = await submissions.count_commands(
                session, key, overdue_before_ms=overdue_before_ms, silent_before_ms=silent_before_ms
            )
            if all(count.final for count in counted):
                submission.rollout_open = False
                self._metrics.rollouts.labels("completed" if submission.stop_reason is None else "stopped").inc()
                return _Looked([], over=True, changed=True)
            if submission.stop_reason is not None:
                return _Looked([])
            plan = plan_of(submission.rollout)
            counts = wave_counts(len(plan.waves), counted)
            wave = submission.wave or 0
            decision = decide(plan, counts, wave=wave, over_since=submission.wave_over_time, now_ms=now_ms)
            return await self._obey(session, submission, decision, now_ms)

    async def _obey(self, session: AsyncSession, submission: Submission, decision: Decision, now_ms: int) -> _Looked:
        key = SubmissionKey(submission.workspace_id, submission.submission_id)
        if decision.stop is not None:
            self._note_stop(session, key, decision.stop)
            return _Looked(await stop(session, submission, decision.stop, running=False), changed=True)
        changed = (submission.wave or 0, submission.wave_over_time) != (decision.wave, decision.over_since)
        submission.wave, submission.wave_over_time = decision.wave, decision.over_since
        deadline_ms = now_ms + self._settings.delivery_seconds * 1000
        released = await submissions.let_go(session, key, decision.wave, decision.start, deliver_before_ms=deadline_ms)
        return _Looked(released, changed=changed or bool(released), wake_time=decision.wake_time)

    def _note_stop(self, session: AsyncSession, key: SubmissionKey, reason: str) -> None:
        happening = Happening("submission.stop", "ok", key.submission_id, key.workspace_id, {"reason": reason})
        append(session, self._clock.now(), CONDUCTOR, happening)
        self._log.warning("rollout.stopped", submission_id=key.submission_id, reason=reason)


def plan_of(document: Mapping[str, Any]) -> Plan:
    """Return the plan that a submission's record holds."""
    return Plan(**{**document, "waves": tuple(document["waves"])})


def wave_counts(waves: int, counted: Iterable[StateCount]) -> list[WaveCount]:
    """Return the counts by which is decided, from those of the database."""
    sums = [Counter[str]() for _ in range(waves)]
    for count in counted:
        sums[count.wave or 0][_situation(count)] += count.number
    return [WaveCount(**found) for found in sums]


def _situation(count: StateCount) -> str:
    if count.final:
        return {"SUCCEEDED": "succeeded", "CANCELLED": "cancelled"}.get(count.state, "failed")
    if count.held:
        return "held"
    if count.delivered:
        return "unreached" if count.silent else "open"
    if not count.tried:
        return "unsent"
    return "unreached" if count.overdue else "open"
