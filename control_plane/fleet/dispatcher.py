"""The dispatcher: brings recorded commands to their nodes and follows them until they have ended.

Theory of operation. Every command that is not final is a piece of work (see `control_plane.node_work`), of which each
run is a step: it reads the record, calls the node outside any transaction, and writes what came of it. All that matters
is in the database, from which the work is taken up at start. Where the database did not take what came of a delivery,
the next step begins with writing down that there was one. A command that its rollout holds back has no next step: it
waits for a kick. A transaction whose end was not heard of, since the database was lost in its commit, may have recorded
commands that nobody kicks: now and then it is looked whether there are any.
"""

import asyncio
import random
from dataclasses import dataclass, field

from control_plane.fleet.barred import why_barred, why_revoked
from control_plane.fleet.command_changes import (
    Change,
    attempted,
    barred,
    given_up,
    judged,
    never_sent,
    not_reached,
    out_of_reach,
)
from control_plane.fleet.command_steps import (
    FINAL_STATES,
    SLOWEST_POLL_SECONDS,
    UNKNOWN,
    WATCHED_POLL_SECONDS,
    Step,
    next_delay_seconds,
    next_step,
)
from control_plane.fleet.command_watches import CommandWatches, Pace
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, LARGEST_ANSWER_BYTES, NodeAddress, NodeCommands
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from control_plane.fleet.rollouts import slowest_poll_seconds
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.history.chronicle import Chronicle
from control_plane.history.events import Standing
from control_plane.metrics import ControlPlaneMetrics
from control_plane.node_work import NodeWork, Piece, Rest
from control_plane.storage import commands
from control_plane.storage.beginning import begun, look_for_ever
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

STORAGE_RETRY_SECONDS = 1.0
FAULT_RETRY_SECONDS = 30.0
LOOK_SECONDS = 30.0
MOST_AT_ONCE_OF_A_NODE = 4
MOST_QUICK_CHANGES = 64
"""So often a change makes it likely that another follows soon; then a command is asked about as one at rest is."""
_NOT_LOOKED_FOR = "commands.not_looked_for"


@dataclass(slots=True)
class _Followed(Piece):
    """A command that is not final.

    `unrecorded_until_ms`: there was an attempt of which nothing is recorded yet, and which the node may accept so long.
    """

    slowest_poll_seconds: float = SLOWEST_POLL_SECONDS
    unrecorded_until_ms: int | None = None
    changes: int = 0
    pace: Pace = field(default_factory=Pace)


class Dispatcher:
    """Runs the steps of commands that are not final."""

    def __init__(
        self,
        *,
        database: Database,
        nodes: NodeCommands,
        news: SubmissionNews,
        metrics: ControlPlaneMetrics,
        clock: Clock,
        rng: random.Random,
        log: Logger,
        most_at_once: int,
        most_watched: int,
        chronicle: Chronicle,
    ) -> None:
        self._chronicle = chronicle
        self._database = database
        self._nodes = nodes
        self._news = news
        self._clock = clock
        self._log = log
        self._work = NodeWork[CommandKey, _Followed](
            self._run_step,
            _Followed,
            most_at_once=most_at_once,
            most_of_a_node=MOST_AT_ONCE_OF_A_NODE,
            counted=metrics.commands_open.set,
            clock=clock,
            rng=rng,
            name="trunkline-command-step",
        )
        self._watches = CommandWatches(
            nodes=nodes, find_place=self._running_at, on_change=self._work.kick_known, most=most_watched
        )

    async def run(self) -> None:
        """Take up what a previous process left, and run steps for ever."""
        await begun(self._take_up, self._log, _NOT_LOOKED_FOR)
        try:
            async with asyncio.TaskGroup() as group:
                looking = look_for_ever(self._take_up_missed, LOOK_SECONDS, self._log, _NOT_LOOKED_FOR)
                group.create_task(looking, name="trunkline-command-look")
                await self._work.run()
        finally:
            await self._watches.close()

    def kick(self, key: CommandKey, node_id: str) -> None:
        """Run the command's next step now; one that is running is followed by another."""
        self._work.kick(key, node_id)

    def kick_node(self, node_id: str) -> None:
        """Run the next steps of all the node's commands now, since it has come back."""
        self._work.kick_node(node_id)

    async def settle(self, key: CommandKey, node_id: str, timeout_seconds: float) -> bool:
        """Run a step of the command that begins now, and wait for it; False if it took longer than that."""
        return await self._work.settle(key, node_id, timeout_seconds)

    async def wait_for_steps(self, key: CommandKey, more: int, timeout_seconds: float) -> bool:
        """Wait until so many more steps of the command have ended, or it is final; False if that took too long."""
        return await self._work.wait_for_runs(key, more, timeout_seconds)

    async def _running_at(self, key: CommandKey) -> NodeAddress | None:
        """Return where a command runs that is to be watched."""
        async with self._database.read() as session:
            command = await commands.find(session, key)
            if command is None or command.final:
                return None
            found = await commands.node_of(session, command)
        return None if found is None else NodeAddress(*found)

    async def _take_up(self) -> None:
        async with self._database.write() as session:
            await commands.doubt_attempts(session, self._nodes.accepted_until_ms())
            keys = await commands.open_keys(session)
        for key, node_id in keys:
            self.kick(key, node_id)

    async def _take_up_missed(self) -> None:
        """Take up commands that are on record, and of which this process was never told."""
        async with self._database.read() as session:
            if await commands.count_open(session) == len(self._work):
                return
            keys = await commands.open_keys(session)
        for key, node_id in keys:
            if key not in self._work:
                self.kick(key, node_id)

    async def _run_step(self, key: CommandKey, followed: _Followed) -> float | Rest:
        try:
            step = await self._advance(key, followed)
        except StorageError as error:
            self._log.error("command.not_recorded", command_id=key.command_id, reason=str(error))
            return STORAGE_RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - a fault of ours with one command must not stop all others
            self._log.error("command.step_failed", command_id=key.command_id, exc_info=error)
            return FAULT_RETRY_SECONDS
        if step is None:
            return Rest.DONE
        if step is Step.HOLD:
            return Rest.UNTIL_KICKED
        if self._is_watched(key, followed, step):
            return WATCHED_POLL_SECONDS
        return next_delay_seconds(step, followed.attempt, followed.slowest_poll_seconds)

    def _is_watched(self, key: CommandKey, followed: _Followed, step: Step) -> bool:
        """Whether the node tells of the command by itself; one that others wait for is asked all the same."""
        patient = followed.slowest_poll_seconds >= SLOWEST_POLL_SECONDS
        return patient and step in (Step.ASK, Step.DELIVER) and key in self._watches

    async def _advance(self, key: CommandKey, followed: _Followed) -> Step | None:
        """Run one step, and return it; None once the command is final."""
        if followed.unrecorded_until_ms is not None:
            await self._record(key, followed, attempted(followed.unrecorded_until_ms))
        async with self._database.read() as session:
            command = await commands.find(session, key)
            if command is None or command.final:
                return None
            found = await commands.node_of(session, command)
            submission = await commands.find_submission(session, key.workspace_id, command.submission_id)
            step = next_step(command, self._now_ms())
            if found is None or step is Step.HOLD:
                return step  # a node being deleted: the deletion itself ends the command
            bar = await why_barred(session, found[1], self._now_ms()) if step is Step.DELIVER else None
            is_silent = step in (Step.ASK, Step.CANCEL) and command.state == UNKNOWN
            end = await why_revoked(session, found[1]) if is_silent else None
        if submission is not None and submission.rollout is not None:
            others_wait_seconds = slowest_poll_seconds(submission.rollout["max_concurrent"])
            followed.slowest_poll_seconds = min(SLOWEST_POLL_SECONDS, others_wait_seconds)
        if step is Step.CANCEL_UNSENT:
            change = never_sent(submission)
        elif step is Step.GIVE_UP:
            change = given_up(command)
        elif bar is not None:
            change = barred(command, bar)
        elif end is not None:
            change = out_of_reach(end)
        else:
            followed.unrecorded_until_ms = self._nodes.accepted_until_ms() if step is Step.DELIVER else None
            change = await self._perform(step, NodeAddress(*found), command, submission, followed.unrecorded_until_ms)
        return None if await self._record(key, followed, change) else step

    async def _perform(
        self,
        step: Step,
        address: NodeAddress,
        command: Command,
        submission: Submission | None,
        perhaps_until_ms: int | None,
    ) -> Change:
        """Call the node; `perhaps_until_ms`: a delivery of which no answer comes may be accepted so long."""
        try:
            answer = await self._call(step, address, command, submission)
            body = await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
        except NotReachedError as error:
            return not_reached(str(error))
        except (UnansweredError, TrunklineError) as error:
            return not_reached(str(error), perhaps_until_ms)
        return judged(step, answer.response.status, body, perhaps_until_ms)

    async def _call(
        self, step: Step, address: NodeAddress, command: Command, submission: Submission | None
    ) -> NodeAnswer:
        if step is Step.DELIVER:
            spec = dict(submission.spec or {}) if submission else {}
            return await self._nodes.submit(address, command.command_id, spec, deliver_before_ms=command.deliver_before)
        if step is Step.CANCEL:
            return await self._nodes.cancel(address, command.command_id)
        return await self._nodes.ask(address, command.command_id)

    async def _record(self, key: CommandKey, followed: _Followed, change: Change) -> bool:
        """Take what a step found out over into the record; returns whether the command is final."""
        async with self._database.write() as session:
            command = await commands.find(session, key)
            if command is None or command.final:
                return True
            before, standing = _visible(command), Standing.of(command)
            change.apply(command, self._now_ms())
            changed = _visible(command) != before
            if changed and followed.changes < MOST_QUICK_CHANGES:
                followed.attempt, followed.changes = 0, followed.changes + 1
            noted = await self._chronicle.changed(session, standing, command, change.decision)
            await session.flush()
            if (command.delivered or command.final) and not standing.delivered:
                await commands.forget_spec(session, command)
            final = command.state in FINAL_STATES
        followed.unrecorded_until_ms = None
        self._chronicle.done(noted)
        if changed:
            self._news.tell(SubmissionKey(command.workspace_id, command.submission_id))
        if final:
            self._watches.end(key)
            self._log.info("command.ended", command_id=key.command_id, node=command.node, state=command.state)
        elif change.revision is not None:
            self._watches.watch(key, change.revision, followed.pace)
        return final

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _visible(command: Command) -> tuple[object, ...]:
    return (command.state, command.delivered, command.stdout_bytes, command.stderr_bytes)
