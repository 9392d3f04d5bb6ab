"""The dispatcher: brings recorded commands to their nodes and follows them until they have ended.

Theory of operation. Every command that is not final has an entry with the time of its next step. One loop takes due
entries and runs their steps, a bounded number at once, few of one node, and never two of one command. A step reads the
record, calls the node outside any transaction, and writes what came of it. The entries are only a timetable: all that
matters is in the database, from which they are made again at start. Where the database did not take what came of a
delivery, the next step begins with writing down that there was one. The entry of a command that its rollout holds back
has no time: it waits for a kick. A transaction whose end was not heard of, since the database was lost in its commit,
may have recorded commands that nobody kicks: now and then it is looked whether there are any.
"""

import asyncio
import contextlib
import json
import random
from collections import defaultdict
from dataclasses import dataclass, field

from control_plane.fleet.barred import why_barred
from control_plane.fleet.command_steps import (
    FINAL_STATES,
    SLOWEST_POLL_SECONDS,
    WATCHED_POLL_SECONDS,
    BadAnswerError,
    Step,
    doubt,
    end,
    heard,
    next_delay_seconds,
    next_step,
    not_asked,
    read_answer,
    unanswered,
    unknown_to_node,
)
from control_plane.fleet.command_watches import CommandWatches
from control_plane.fleet.node_commands import CONTENT_READ_SECONDS, LARGEST_ANSWER_BYTES, NodeAddress, NodeCommands
from control_plane.fleet.reach import NodeAnswer, NotReachedError, UnansweredError
from control_plane.fleet.rollouts import slowest_poll_seconds
from control_plane.fleet.submission_news import SubmissionNews
from control_plane.history.chronicle import Chronicle
from control_plane.history.command_audit import Decision
from control_plane.history.events import Standing
from control_plane.metrics import ControlPlaneMetrics
from control_plane.storage import commands
from control_plane.storage.beginning import begun
from control_plane.storage.commands import CommandKey
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey
from control_plane.storage.text import storable
from control_plane.timetable import Timetable
from control_plane.turns import Turns
from trunkline.client.errors import TrunklineError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

STORAGE_RETRY_SECONDS = 1.0
FAULT_RETRY_SECONDS = 30.0
LOOK_SECONDS = 30.0
MOST_AT_ONCE_OF_A_NODE = 4
"""So that a node which answers slowly, or never, does not keep all the others waiting."""
_TRY_AGAIN = frozenset({401, 408, 425, 429, 500, 502, 503, 504, 507})


@dataclass(slots=True)
class _Entry:
    node_id: str
    attempt: int = 0
    running: bool = False
    again: bool = False
    steps: int = 0
    slowest_poll_seconds: float = SLOWEST_POLL_SECONDS
    unrecorded_until_ms: int | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)


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
        self._watches = CommandWatches(
            nodes=nodes, find_place=self._running_at, on_change=self._kick_again, most=most_watched
        )
        self._database = database
        self._nodes = nodes
        self._news = news
        self._metrics = metrics
        self._clock = clock
        self._rng = rng
        self._log = log
        self._slots = asyncio.Semaphore(most_at_once)
        self._entries: dict[CommandKey, _Entry] = {}
        self._of_node: defaultdict[str, set[CommandKey]] = defaultdict(set)
        self._timetable = Timetable[CommandKey](clock)
        self._turns = Turns[CommandKey](MOST_AT_ONCE_OF_A_NODE)

    async def run(self) -> None:
        """Take up what a previous process left, and run steps for ever."""
        await begun(self._take_up, self._log, "commands.not_looked_for")
        try:
            async with asyncio.TaskGroup() as steps:
                steps.create_task(self._keep_looking(), name="trunkline-command-look")
                await self._run_steps(steps)
        finally:
            await self._watches.close()

    async def _run_steps(self, steps: asyncio.TaskGroup) -> None:
        while True:
            key = await self._timetable.next()
            entry = self._entries.get(key)
            if entry is None or entry.running or not self._turns.begin(entry.node_id, key):
                continue
            await self._slots.acquire()
            entry.running, entry.again = True, False
            steps.create_task(self._run_step(key, entry), name="trunkline-command-step")

    def kick(self, key: CommandKey, node_id: str) -> None:
        """Run the command's next step now; one that is running is followed by another."""
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(node_id)
            self._of_node[node_id].add(key)
            self._metrics.commands_open.set(len(self._entries))
        entry.attempt = 0
        entry.again = True
        if not entry.running:
            self._timetable.set(key, 0.0)

    def kick_node(self, node_id: str) -> None:
        """Run the next steps of all the node's commands now, since it has come back."""
        for key in self._of_node.get(node_id, ()):
            self.kick(key, node_id)

    async def settle(self, key: CommandKey, node_id: str, timeout_seconds: float) -> bool:
        """Run a step of the command that begins now, and wait for it; False if it took longer than that."""
        entry = self._entries.get(key)
        more = 2 if entry is not None and entry.running else 1
        self.kick(key, node_id)
        return await self.wait_for_steps(key, more, timeout_seconds)

    async def wait_for_steps(self, key: CommandKey, more: int, timeout_seconds: float) -> bool:
        """Wait until so many more steps of the command have ended, or it is final; False if that took too long."""
        entry = self._entries.get(key)
        wanted = entry.steps + more if entry is not None else 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while entry is not None and entry.steps < wanted and self._entries.get(key) is entry:
                    await entry.changed.wait()
                return True
        return False

    def _kick_again(self, key: CommandKey) -> None:
        """Run the next step of a command that has not ended."""
        entry = self._entries.get(key)
        if entry is not None:
            self.kick(key, entry.node_id)

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

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._take_up_missed()
            except StorageError as error:
                self._log.error("commands.not_looked_for", reason=str(error))

    async def _take_up_missed(self) -> None:
        """Take up commands that are on record, and of which this process was never told."""
        async with self._database.read() as session:
            if await commands.count_open(session) == len(self._entries):
                return
            keys = await commands.open_keys(session)
        for key, node_id in keys:
            if key not in self._entries:
                self.kick(key, node_id)

    async def _run_step(self, key: CommandKey, entry: _Entry) -> None:
        step, final = Step.NOTHING, False
        try:
            step, final = await self._advance(key, entry)
            delay = next_delay_seconds(step, entry.attempt, entry.slowest_poll_seconds)
            if self._is_watched(key, entry, step):
                delay = WATCHED_POLL_SECONDS
        except StorageError as error:
            self._log.error("command.not_recorded", command_id=key.command_id, reason=str(error))
            delay = STORAGE_RETRY_SECONDS
        except Exception as error:  # noqa: BLE001 - a fault of ours with one command must not stop all others
            self._log.error("command.step_failed", command_id=key.command_id, exc_info=error)
            delay = FAULT_RETRY_SECONDS
        finally:
            entry.running = False
            self._slots.release()
            if (waiting := self._turns.end(entry.node_id)) is not None:
                self._timetable.set(waiting, 0.0)
        entry.attempt += 1
        entry.steps += 1
        if final:
            self._drop(key)
        elif entry.again or step is not Step.HOLD:
            self._timetable.set(key, 0.0 if entry.again else delay * self._rng.uniform(0.8, 1.2))
        entry.changed.set()
        entry.changed = asyncio.Event()

    def _drop(self, key: CommandKey) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._of_node[entry.node_id].discard(key)
            if not self._of_node[entry.node_id]:
                del self._of_node[entry.node_id]
        self._metrics.commands_open.set(len(self._entries))

    def _is_watched(self, key: CommandKey, entry: _Entry, step: Step) -> bool:
        """Whether the node tells of the command by itself; one that others wait for is asked all the same."""
        patient = entry.slowest_poll_seconds >= SLOWEST_POLL_SECONDS
        return patient and step in (Step.ASK, Step.DELIVER) and key in self._watches

    async def _advance(self, key: CommandKey, entry: _Entry) -> tuple[Step, bool]:
        """Run one step; returns it and whether the command is final."""
        if entry.unrecorded_until_ms is not None:
            await self._record(key, entry, _Change(attempted_until_ms=entry.unrecorded_until_ms))
        async with self._database.read() as session:
            command = await commands.find(session, key)
            if command is None or command.final:
                return Step.NOTHING, True
            found = await commands.node_of(session, command)
            submission = await commands.find_submission(session, key.workspace_id, command.submission_id)
            step = next_step(command, self._now_ms())
            if found is None or step is Step.HOLD:
                return step, False  # a node being deleted: the deletion itself ends the command
            barred = await why_barred(session, found[1], self._now_ms()) if step is Step.DELIVER else None
        if submission is not None and submission.rollout is not None:
            others_wait_seconds = slowest_poll_seconds(submission.rollout["max_concurrent"])
            entry.slowest_poll_seconds = min(SLOWEST_POLL_SECONDS, others_wait_seconds)
        if step is Step.CANCEL_UNSENT:
            change = _never_sent(submission)
        elif barred is not None:
            change = _barred(command, barred)
        else:
            spec = dict(submission.spec or {}) if submission else {}
            if step is Step.DELIVER:
                entry.unrecorded_until_ms = self._nodes.accepted_until_ms()
            change = await self._perform(step, NodeAddress(*found), command, spec)
        return step, await self._record(key, entry, change)

    async def _perform(self, step: Step, address: NodeAddress, command: Command, spec: dict[str, object]) -> "_Change":
        if step is Step.GIVE_UP:
            return _Change(end_as=("LOST", f"it was not delivered: {command.reason or 'no attempt was made'}"))
        until_ms = self._nodes.accepted_until_ms()
        try:
            answer = await self._call(step, address, command, spec)
            body = await answer.response.read(limit_bytes=LARGEST_ANSWER_BYTES, timeout_seconds=CONTENT_READ_SECONDS)
        except NotReachedError as error:
            return _Change(not_asked=str(error))
        except (UnansweredError, TrunklineError) as error:
            return _Change(not_asked=str(error), perhaps_until_ms=until_ms if step is Step.DELIVER else None)
        return _judged(step, answer.response.status, body, until_ms)

    async def _call(self, step: Step, address: NodeAddress, command: Command, spec: dict[str, object]) -> NodeAnswer:
        if step is Step.DELIVER:
            return await self._nodes.submit(address, command.command_id, spec, deliver_before_ms=command.deliver_before)
        if step is Step.CANCEL:
            return await self._nodes.cancel(address, command.command_id)
        return await self._nodes.ask(address, command.command_id)

    async def _record(self, key: CommandKey, entry: _Entry, change: "_Change") -> bool:
        async with self._database.write() as session:
            command = await commands.find(session, key)
            if command is None or command.final:
                return True
            before, standing = _visible(command), Standing.of(command)
            change.apply(command, self._now_ms())
            changed = _visible(command) != before
            if changed:
                entry.attempt = 0
            noted = await self._chronicle.changed(session, standing, command, change.decision)
            await session.flush()
            if (command.delivered or command.final) and not standing.delivered:
                await commands.forget_spec(session, command)
            final = command.state in FINAL_STATES
        entry.unrecorded_until_ms = None
        self._chronicle.done(noted)
        if changed:
            self._news.tell(SubmissionKey(command.workspace_id, command.submission_id))
        if final:
            self._watches.end(key)
        elif change.revision is not None:
            self._watches.watch(key, change.revision)
        if final:
            self._log.info("command.ended", command_id=key.command_id, node=command.node, state=command.state)
        return final

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


@dataclass(frozen=True, slots=True)
class _Change:
    """What a step found out; at most one of these is set, beside `perhaps_until_ms`.

    `attempted_until_ms`: there was an attempt of which nothing could be recorded, which the node could accept so long.
    """

    said: bytes | None = None
    not_known: bool = False
    end_as: tuple[str, str] | None = None
    not_asked: str | None = None
    perhaps_until_ms: int | None = None
    attempted_until_ms: int | None = None
    decision: Decision | None = None
    revision: int | None = None

    def apply(self, command: Command, now_ms: int) -> None:
        """Take it over into the record."""
        if self.said is not None:
            heard(command, read_answer(self.said))
        elif self.not_known:
            unknown_to_node(command, now_ms)
        elif self.end_as is not None:
            end(command, *self.end_as, now_ms)
        elif self.attempted_until_ms is not None:
            doubt(command, self.attempted_until_ms)
        elif self.perhaps_until_ms is not None:
            unanswered(command, self.not_asked or "", now_ms, accepted_until_ms=self.perhaps_until_ms)
        else:
            not_asked(command, self.not_asked or "", now_ms)


def _never_sent(submission: Submission | None) -> _Change:
    stopped = submission.stop_reason if submission is not None else None
    reason = "cancelled before it reached the node" if stopped is None else f"never sent: {stopped}"
    return _Change(end_as=("CANCELLED", reason))


def _barred(command: Command, reason: str) -> _Change:
    """What it means that nothing may be sent to the node: whoever waits is told, unless it may have arrived before."""
    if command.maybe_delivered_until is not None:
        return _Change(not_asked=reason)
    return _Change(end_as=("LOST", f"it was not delivered: {reason}"))


def _judged(step: Step, status: int, body: bytes, until_ms: int) -> _Change:
    """Return what a node's answer means for the command."""
    if status in (200, 201, 202):
        try:
            read = read_answer(body)
        except BadAnswerError as error:
            return _Change(not_asked=str(error), perhaps_until_ms=until_ms if step is Step.DELIVER else None)
        return _Change(said=body, decision=Decision(taken_time=read.submit_time), revision=read.revision)
    if status == 404 and step is not Step.DELIVER:
        return _Change(not_known=True)
    if step is not Step.DELIVER or status in _TRY_AGAIN:
        return _Change(not_asked=f"the node answered {status}: {_message(body)}")
    refusal = Decision(refused=True, rule=_rule(body))
    return _Change(end_as=("LOST", f"the node refused it ({status}): {_message(body)}"), decision=refusal)


def _message(body: bytes) -> str:
    """Return the message of a node's error document, or the beginning of whatever it sent."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        message = document.get("message") if isinstance(document, dict) else None
        if isinstance(message, str):
            return message[:400]
    return body[:200].decode("utf-8", "replace").strip()


def _rule(body: bytes) -> str | None:
    """Return the owner's rule that a node's error document names."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        details = document.get("details") if isinstance(document, dict) else None
        for detail in details if isinstance(details, list) else [details]:
            rule = detail.get("policy_rule") if isinstance(detail, dict) else None
            if isinstance(rule, str):
                return storable(rule, 100)
    return None


def _visible(command: Command) -> tuple[object, ...]:
    return (command.state, command.delivered, command.stdout_bytes, command.stderr_bytes)
