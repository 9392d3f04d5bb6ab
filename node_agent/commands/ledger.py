"""All commands of this node: taken once each, started as slots become free, kept until they are old."""

import asyncio
import errno
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from node_agent.commands.admission import Asked, CommandGrant, Standing, admit, refusal_of_caller, refusal_of_token
from node_agent.commands.command import Command, StopCause
from node_agent.commands.errors import CommandRefusal, CommandRefused, RefusalReason
from node_agent.commands.meter import CommandMeter
from node_agent.commands.proc import RUN_VARIABLE, boot_id
from node_agent.commands.process import ProcessPlan
from node_agent.commands.records import CommandRecord, CommandStore
from node_agent.commands.recovery import NEVER_STARTED, recover
from node_agent.commands.retention import RetentionBounds, expired
from node_agent.commands.run import CommandRun
from node_agent.commands.secret_source import NoSecrets, SecretSource, Wanted
from node_agent.commands.states import CommandEvent, CommandState
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy import CommandRules, Policy
from node_agent.policy_file import PolicySource
from node_agent.rules.parameters import RealPaths
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

HOUSEKEEPING_SECONDS = 30.0
MAX_TOKENS_OF_A_COMMAND = 64


@dataclass(frozen=True, slots=True)
class CommandBounds:
    """Bounds that are the agent's own, not the policy's."""

    grace_seconds: float = 10.0
    retention: RetentionBounds = field(default_factory=RetentionBounds)


class CommandLedger:
    """The commands of the node. All methods belong to the event loop's thread."""

    def __init__(
        self,
        store: CommandStore,
        policy: PolicySource,
        bounds: CommandBounds,
        meter: CommandMeter,
        clock: Clock,
        log: Logger,
        secret_source: SecretSource | None = None,
        kept_from_metadata: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._kept_from_metadata = kept_from_metadata
        self._secret_source = secret_source or NoSecrets()
        self._store = store
        self._policy = policy
        self._bounds = bounds
        self._meter = meter
        self._clock = clock
        self._log = log
        self._boot_id = boot_id()
        self._commands: dict[str, Command] = {}
        self._used_tokens: dict[str, str] = {}
        self._recording: dict[str, asyncio.Task[None]] = {}
        self._waiting: deque[tuple[Command, ProcessPlan, Wanted | None]] = deque()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._runs: dict[str, CommandRun] = {}
        self._stopping = False
        policy.subscribe(self._policy_changed)

    async def open(self) -> None:
        """Load the commands of the agent before this one, and end what it left running.

        Raises:
            OSError: the commands' directory cannot be made or read.
        """
        await asyncio.to_thread(self._store.open)
        for command in await recover(self._store, self._boot_id, self._clock, self._log):
            self._commands[command.command_id] = command
            self._use_tokens(command)

    @property
    def store(self) -> CommandStore:
        """Where the records and the output are."""
        return self._store

    def counts(self) -> tuple[int, int]:
        """Return how many commands run, and how many wait."""
        return len(self._running), len(self._waiting) + len(self._recording)

    def get(self, command_id: str) -> Command:
        """Return a command.

        Raises:
            CommandRefused: there is none of that id (`UNKNOWN`).
        """
        command = self._commands.get(command_id)
        if command is None or command_id in self._recording:
            raise CommandRefused(RefusalReason.UNKNOWN, "there is no such command on this node")
        return command

    def __iter__(self) -> Iterator[Command]:
        return (command for command in self._commands.values() if command.command_id not in self._recording)

    async def submit(
        self, command_id: str, submission: Submission, submitter: Submitter, real_paths: RealPaths | None = None
    ) -> tuple[Command, bool]:
        """Take a command, once: the answer is the command, and whether this call is the one that made it.

        When it returns, the intent is on the disk. A caller that goes away meanwhile changes nothing. `real_paths` is
        where the paths lead that are among the parameters of a named command.

        Raises:
            CommandRefused: another body under the same id, a token used before, the policy, a full queue, a full disk.
        """
        if command_id not in self._commands:
            asked = Asked(command_id, submission, submitter, real_paths or {})
            command = Command(self._new_record(asked, self._granted(asked)), recorded=True)
            self._commands[command_id] = command
            self._use_tokens(command)
            self._recording[command_id] = asyncio.create_task(self._record(command, submission))
            await self._recorded(command_id)
            return command, True
        await self._recorded(command_id)
        return await self._again(self.get(command_id), submission, submitter), False

    async def cancel(self, command_id: str, subject: str) -> Command:
        """Cancel a command; one that has ended, or is being cancelled, stays as it is.

        Raises:
            CommandRefused: there is none of that id, or the policy does not let this caller.
        """
        command = self.get(command_id)
        _allow(refusal_of_caller(self._policy.current.commands, subject, command.record.named))
        if command.state in (CommandState.QUEUED, CommandState.RUNNING):
            self._cancel(command, f"cancelled by {subject}")
            await self._save(command)
        return command

    async def run(self) -> None:
        """Keep house until cancelled: forget what is old, and save what the disk did not take before."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            await self.keep_house()

    async def keep_house(self) -> None:
        """Forget what is old, and save what the disk did not take before."""
        for command in [command for command in self if command.unsaved]:
            await self._save(command)
        records = [command.record for command in self if command.spooled]
        expiry = expired(records, self._bounds.retention, self._clock.now())
        for command_id in expiry.commands:
            self._forget(command_id)
            await asyncio.to_thread(self._store.remove, command_id)
        for command_id in expiry.outputs:
            self._commands[command_id].record.output_removed = True
            await self._save(self._commands[command_id])
            await asyncio.to_thread(self._store.remove_output, command_id)

    async def stop(self) -> None:
        """Take no more, end what runs, and record all of it as lost with that reason."""
        self._stopping = True
        if self._recording:
            await asyncio.wait(self._recording.values())
        while self._waiting:
            command, _, _ = self._waiting.popleft()
            command.happened(CommandEvent.AGENT_ENDED, self._clock.now(), reason=NEVER_STARTED)
            await self._save(command)
        for command_id in self._running:
            self._commands[command_id].ask_stop(StopCause.AGENT)
        if self._running:
            await asyncio.wait(self._running.values())

    def kill(self) -> None:
        """Cut the grace of what is being ended: there is no more time."""
        for run in self._runs.values():
            run.kill()

    def _granted(self, asked: Asked) -> CommandGrant:
        decision = admit(asked, self._policy.current.commands, self._standing(asked))
        if isinstance(decision, CommandRefusal):
            raise CommandRefused.of(decision)
        return decision

    def _standing(self, asked: Asked) -> Standing:
        wanted = asked.submission.secrets
        return Standing(
            now=self._clock.now(),
            stopping=self._stopping,
            unfinished=sum(self.counts()),
            remembered=len(self._commands),
            most_remembered=self._bounds.retention.most_held,
            token_command=self._command_of_token(asked.submitter),
            secrets=None if wanted is None else self._secret_source.refusal(wanted),
            kept_from_metadata=self._kept_from_metadata(),
        )

    def _command_of_token(self, submitter: Submitter) -> str | None:
        return None if submitter.token_id is None else self._used_tokens.get(submitter.token_id)

    def _use_tokens(self, command: Command) -> None:
        for token_id in command.record.token_ids:
            self._used_tokens[token_id] = command.command_id

    def _forget(self, command_id: str) -> None:
        command = self._commands.pop(command_id)
        for token_id in command.record.token_ids:
            self._used_tokens.pop(token_id, None)

    async def _recorded(self, command_id: str) -> None:
        """Wait until the command's intent is on the disk; the writing goes on if the waiter is cancelled."""
        recording = self._recording.get(command_id)
        if recording is not None:
            await asyncio.shield(recording)

    async def _record(self, command: Command, submission: Submission) -> None:
        try:
            await asyncio.to_thread(self._store.create, command.record)
        except OSError as error:
            self._forget(command.command_id)
            self._log.error("command.not_recorded", command_id=command.command_id, reason=error.strerror)
            raise CommandRefused(RefusalReason.NO_STORAGE, _not_recorded(error)) from None
        finally:
            del self._recording[command.command_id]
        self._meter.submitted()
        self._waiting.append((command, self._plan(command.record, submission), _wanted(command.record, submission)))
        self._start_next()

    def _new_record(self, asked: Asked, grant: CommandGrant) -> CommandRecord:
        submission, submitter = asked.submission, asked.submitter
        return CommandRecord(
            command_id=asked.command_id,
            fingerprint=submission.fingerprint(),
            argv=grant.argv,
            named=submission.named,
            parameters=submission.parameters if submission.named is not None else None,
            submit_time=int(self._clock.now() * 1000),
            submitted_by=submitter.subject,
            run_id=secrets.token_hex(16),
            boot_id=self._boot_id,
            user=grant.user,
            working_directory=grant.working_directory,
            timeout_seconds=grant.timeout_seconds,
            secrets=submission.secrets.model_dump() if submission.secrets is not None else None,
            token_ids={submitter.token_id: submitter.replayable_until} if submitter.token_id else {},
        )

    def _plan(self, record: CommandRecord, submission: Submission) -> ProcessPlan:
        names = {"TRUNKLINE_COMMAND_ID": record.command_id, RUN_VARIABLE: record.run_id}
        return ProcessPlan(
            argv=record.argv,
            environment=submission.environment | names,
            working_directory=record.working_directory,
            user=record.user,
            stdin=submission.stdin,
        )

    async def _again(self, command: Command, submission: Submission, submitter: Submitter) -> Command:
        """Answer a submit whose id is known: the same body is the same command, and its token is used up too."""
        if command.record.fingerprint != submission.fingerprint():
            raise CommandRefused(RefusalReason.OTHER_BODY, "the command id was used before with another body")
        _allow(refusal_of_token(command.command_id, self._command_of_token(submitter)))
        now, used = self._clock.now(), command.record.token_ids
        if submitter.bound and submitter.replayable_until <= max(used.values(), default=0):
            return command  # it names this command, which is remembered for longer than it can be sent
        if submitter.token_id is not None and submitter.token_id not in used:
            live = {token_id: expires_at for token_id, expires_at in used.items() if expires_at > now}
            if len(live) >= MAX_TOKENS_OF_A_COMMAND:
                raise CommandRefused(RefusalReason.TOO_MANY, "the command was submitted too often; try again later")
            command.record.token_ids = live | {submitter.token_id: submitter.replayable_until}
            self._use_tokens(command)
            if not await self._save(command):
                raise CommandRefused(RefusalReason.NO_STORAGE, "the node cannot record that the token was used")
        return command

    def _cancel(self, command: Command, reason: str) -> None:
        waiting = next((one for one in self._waiting if one[0] is command), None)
        if waiting is None and command.state is CommandState.QUEUED:
            # Its process is being started this moment; the run itself sees to the rest.
            command.record.reason = reason
        else:
            command.happened(CommandEvent.CANCEL_ASKED, self._clock.now(), reason=reason)
        if waiting is None:
            command.ask_stop(StopCause.CANCEL)
        else:
            self._waiting.remove(waiting)
            self._meter.ended(command.state)

    def _start_next(self) -> None:
        rules = self._policy.current.commands
        while self._waiting and len(self._running) < rules.max_concurrent and not self._stopping:
            command, plan, wanted = self._waiting.popleft()
            command.stop_asked = asyncio.get_running_loop().create_future()
            task = asyncio.create_task(self._run_one(command, plan, wanted, rules))
            self._running[command.command_id] = task

    async def _run_one(self, command: Command, plan: ProcessPlan, wanted: Wanted | None, rules: CommandRules) -> None:
        run = CommandRun(
            command,
            plan,
            self._store,
            self._clock,
            self._log,
            max_output_bytes=rules.max_output_bytes,
            grace_seconds=self._bounds.grace_seconds,
            secrets=(self._secret_source, wanted) if wanted is not None else None,
        )
        self._runs[command.command_id] = run
        try:
            await run.run()
        finally:
            del self._running[command.command_id], self._runs[command.command_id]
            self._meter.ended(command.state)
            self._start_next()

    async def _save(self, command: Command) -> bool:
        try:
            await command.save(self._store)
        except OSError as error:
            self._log.error("command.not_saved", command_id=command.command_id, reason=error.strerror)
            return False
        return True

    def _policy_changed(self, policy: Policy) -> None:
        self._start_next()


def _allow(refusal: CommandRefusal | None) -> None:
    if refusal is not None:
        raise CommandRefused.of(refusal)


def _not_recorded(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the node's disk is full, so that it cannot record the command"
    return f"the node cannot record the command: {error.strerror}"


def _wanted(record: CommandRecord, submission: Submission) -> Wanted | None:
    """Return what the command is to be given of the workspace's secrets."""
    if submission.secrets is None:
        return None
    return Wanted(
        references=submission.secrets,
        versions=submission.secret_versions,
        command_id=record.command_id,
        submitted_by=record.submitted_by,
        user=record.user,
    )
