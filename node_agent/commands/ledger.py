"""All commands of this node: taken once each, started as slots become free, kept until they are old."""

import asyncio
import errno
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

from node_agent.commands.admission import (
    Asked,
    CommandGrant,
    Standing,
    admit,
    refusal_of_caller,
    refusal_of_stdin,
    refusal_of_token,
)
from node_agent.commands.command import Command, StopCause
from node_agent.commands.errors import CommandRefusal, CommandRefused, RefusalReason
from node_agent.commands.meter import CommandMeter
from node_agent.commands.proc import boot_id
from node_agent.commands.records import CommandRecord, CommandStore
from node_agent.commands.recovery import recover
from node_agent.commands.retention import LastingTime, RetentionBounds, expired, newest_time
from node_agent.commands.run import save, settle
from node_agent.commands.runs import CommandRuns
from node_agent.commands.secret_source import NoSecrets, SecretSource
from node_agent.commands.start_plan import StartPlan, plan_of
from node_agent.commands.states import CommandEvent, CommandState
from node_agent.commands.stdin_content import Taken
from node_agent.commands.submission import Submission
from node_agent.commands.submitter import Submitter
from node_agent.policy_file import PolicySource
from node_agent.rules.parameters import RealPaths
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

HOUSEKEEPING_SECONDS = 30.0
MAX_TOKENS_OF_A_COMMAND = 64
_NOT_FORGOTTEN = "cancelled, but not on record: the node's disk takes nothing, and its next agent may start the command"


@dataclass(frozen=True, slots=True)
class CommandBounds:
    """Bounds that are the agent's own, not the policy's; commands that outlive the agent are left to the next one."""

    grace_seconds: float = 10.0
    outlive_agent: bool = True
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
        self._stopping = False
        self._lasting = LastingTime()
        self._runs = CommandRuns(
            store,
            self._secret_source,
            lambda: policy.current.commands,
            meter,
            clock,
            log,
            grace_seconds=bounds.grace_seconds,
        )
        policy.subscribe(lambda _: self._runs.start_next())

    async def open(self) -> None:
        """Load the commands of the agent before this one: follow what runs, and start what waited.

        Raises:
            OSError: the commands' directory cannot be made or read.
        """
        self._lasting.now(self._clock)
        await asyncio.to_thread(self._store.open)
        recovered = await recover(self._store, self._boot_id, self._clock, self._log)
        if recovered.commands:
            self._lasting.begin(self._clock, max(newest_time(command.record) for command in recovered.commands))
        for command in recovered.commands:
            self._commands[command.command_id] = command
            self._use_tokens(command)
        await self._secret_source.open(recovered.secret_directories)
        for command in recovered.ended:
            self._meter.ended(command.state)
        for command, supervisor in recovered.running:
            self._runs.adopt(command, supervisor)
        for command in recovered.waiting:
            self._runs.add(command, None)

    @property
    def store(self) -> CommandStore:
        """Where the records and the output are."""
        return self._store

    def counts(self) -> tuple[int, int]:
        """Return how many commands run, and how many wait."""
        return self._runs.running, self._runs.waiting + len(self._recording)

    def get(self, command_id: str) -> Command:
        """Return a command.

        Raises:
            CommandRefused: there is none of that id (`UNKNOWN`).
        """
        command = self._commands.get(command_id)
        if command is None or command_id in self._recording:
            raise CommandRefused(RefusalReason.UNKNOWN, "there is no such command on this node")
        return command

    def knows(self, command_id: str) -> bool:
        """Whether there is a command of this id, be it one whose intent is being recorded this moment."""
        return command_id in self._commands

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
            grant = self._granted(asked)
            command = Command(self._new_record(asked, grant), recorded=True)
            plan = plan_of(submission, grant.argv if command.record.argv_truncated else None)
            self._commands[command_id] = command
            at_once = self._runs.reserve(command)
            self._use_tokens(command)
            self._recording[command_id] = asyncio.create_task(self._record(command, plan, at_once=at_once))
            await self._recorded(command_id)
            return command, True
        await self._recorded(command_id)
        return await self._again(self.get(command_id), submission, submitter), False

    async def cancel(self, command_id: str, subject: str) -> Command:
        """Cancel a command; one that has ended, or is being cancelled, stays as it is.

        Raises:
            CommandRefused: there is none of that id, the policy does not let this caller, or one that waited is
                cancelled and the disk takes no word of it.
        """
        command = self.get(command_id)
        _allow(refusal_of_caller(self._policy.current.commands, subject, command.record.named))
        if command.state in (CommandState.QUEUED, CommandState.RUNNING):
            self._cancel(command, f"cancelled by {subject}")
            if command.state.terminal:
                if not await settle(command, self._store, self._log):  # what its start would have needed goes
                    raise CommandRefused(RefusalReason.NO_STORAGE, _NOT_FORGOTTEN)
            else:
                await self._save(command)
        return command

    async def take_stdin(
        self,
        command_id: str,
        subject: str,
        offset: int,
        chunks: AsyncIterator[bytes],
        *,
        complete: bool,
        bound: bool = False,
    ) -> Taken:
        """Take a part of a standard input that follows its command; return how far the input has come.

        Args:
            command_id: the command.
            subject: who brings it.
            offset: where in the input the part begins.
            chunks: the part.
            complete: whether nothing follows it; that counts once all of the part is taken.
            bound: whether the caller's token is good for this very part.

        Raises:
            CommandRefused: it is not for this command or caller, or cannot be taken now.
        """
        command = self.get(command_id)
        record, rules = command.record, self._policy.current.commands
        _allow(refusal_of_caller(rules, subject, record.named))
        _allow(refusal_of_stdin(record, subject, rules, bound=bound))
        if record.state.terminal or record.stdin_bytes is not None:
            return Taken(record.stdin_bytes or 0, whole=record.stdin_bytes is not None, closed=record.state.terminal)
        taken = await command.stdin(self._store).take(offset, chunks, lambda: self._runs.stdin_grown(command))
        if complete and taken.whole and record.stdin_bytes is None:
            await self._complete_stdin(command, taken.size_bytes)
        return taken

    async def run(self) -> None:
        """Keep house until cancelled: forget what is old, and record what the disk did not take before."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_SECONDS)
            await self.keep_house()

    async def keep_house(self) -> None:
        """Forget what is old, and record what the disk did not take before."""
        for command in [command for command in self if command.unsaved]:
            await (settle if command.state.terminal else save)(command, self._store, self._log)
        records = [command.record for command in self if command.spooled]
        now, shown = self._lasting.now(self._clock), self._clock.now()
        expiry = expired(records, self._bounds.retention, now, shown)
        for command_id in expiry.commands:
            await self._removed("record", self._store.remove, command_id)
            self._forget(command_id)  # not before: who submits the id anew makes the same directory
        for command_id in expiry.outputs:
            self._commands[command_id].record.output_removed = True
            await self._save(self._commands[command_id])
            await self._removed("output", self._store.remove_output, command_id)

    async def stop(self) -> None:
        """Take no more. Commands are left to the next agent, or end with this one and are `LOST`, as the bounds say."""
        self._stopping = True
        if self._recording:
            await asyncio.wait(self._recording.values())
        if self._bounds.outlive_agent:
            await self._runs.leave()
        else:
            await self._runs.end()

    def kill(self) -> None:
        """Cut the grace of what is being ended: there is no more time."""
        if not self._bounds.outlive_agent:
            self._runs.kill()

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

    async def _removed(self, what: str, remove: Callable[[str], None], command_id: str) -> None:
        """Remove something of a command from the disk; one that has become read-only, say, is told and ends nothing."""
        try:
            await in_thread(remove, command_id)
        except OSError as error:
            self._log.error("command.not_removed", command_id=command_id, what=what, reason=error.strerror)

    async def _recorded(self, command_id: str) -> None:
        """Wait until the command's intent is on the disk; the writing goes on if the waiter is cancelled."""
        recording = self._recording.get(command_id)
        if recording is not None:
            await asyncio.shield(recording)

    async def _record(self, command: Command, plan: StartPlan, *, at_once: bool) -> None:
        """Record the command; what its start needs is kept too if it has to wait for its turn."""
        try:
            await in_thread(self._store.create, command.record, None if at_once else plan.to_json())
        except OSError as error:
            self._forget(command.command_id)
            self._runs.give_back(command)
            self._log.error("command.not_recorded", command_id=command.command_id, reason=error.strerror)
            raise CommandRefused(RefusalReason.NO_STORAGE, _not_recorded(error)) from None
        finally:
            del self._recording[command.command_id]
        self._meter.submitted()
        self._runs.add(command, plan)

    def _new_record(self, asked: Asked, grant: CommandGrant) -> CommandRecord:
        submission, submitter, rules = asked.submission, asked.submitter, self._policy.current.commands
        grace_seconds = submission.grace_seconds
        record = CommandRecord(
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
            grace_seconds=rules.grace_seconds(
                self._bounds.grace_seconds if grace_seconds is None else grace_seconds, submission.named
            ),
            limits=rules.limits_of(submission.limits, submission.named).model_dump(),
            stdin_streamed=submission.stdin_stream,
            max_output_bytes=rules.output_bytes(submission.limits, submission.named),
            secrets=submission.secrets.model_dump() if submission.secrets is not None else None,
            token_ids={submitter.token_id: submitter.replayable_until} if submitter.token_id else {},
        )
        record.shorten()
        return record

    async def _again(self, command: Command, submission: Submission, submitter: Submitter) -> Command:
        """Answer a submit whose id is known: the same body is the same command, and its token is used up too."""
        if command.record.fingerprint != submission.fingerprint():
            raise CommandRefused(RefusalReason.OTHER_BODY, "the command id was used before with another body")
        _allow(refusal_of_token(command.command_id, self._command_of_token(submitter)))
        now, kept = self._clock.now(), command.tokens_on_disk
        if submitter.bound and submitter.replayable_until <= max(kept.values(), default=0):
            return command  # it names this command, which is remembered for longer than it can be sent
        if submitter.token_id is not None and submitter.token_id not in kept:
            used = command.record.token_ids
            live = {token_id: expires_at for token_id, expires_at in used.items() if expires_at > now}
            if submitter.token_id not in live and len(live) >= MAX_TOKENS_OF_A_COMMAND:
                raise CommandRefused(RefusalReason.TOO_MANY, "the command was submitted too often; try again later")
            command.record.token_ids = live | {submitter.token_id: submitter.replayable_until}
            self._use_tokens(command)
            if not await self._save(command):
                raise CommandRefused(RefusalReason.NO_STORAGE, "the node cannot record that the token was used")
        return command

    def _cancel(self, command: Command, reason: str) -> None:
        if self._runs.withdraw(command):
            command.happened(CommandEvent.CANCEL_ASKED, self._clock.now(), reason=reason)
            self._meter.ended(command.state)
            return
        if command.state is CommandState.QUEUED:
            # Its process is being started this moment; the run itself sees to the rest.
            command.record.reason = reason
        else:
            command.happened(CommandEvent.CANCEL_ASKED, self._clock.now(), reason=reason)
        command.ask_stop(StopCause.CANCEL)

    async def _complete_stdin(self, command: Command, size_bytes: int) -> None:
        """Record that an input is complete, and tell its reader; whoever goes meanwhile may bring its end again."""
        saved = False
        command.record.stdin_bytes = size_bytes
        try:
            saved = await self._save(command)
        finally:
            if not saved:
                command.record.stdin_bytes = None
        if not saved:
            raise CommandRefused(RefusalReason.NO_STORAGE, "the node cannot record that the input is complete")
        self._runs.stdin_grown(command)

    async def _save(self, command: Command) -> bool:
        return await save(command, self._store, self._log)


def _allow(refusal: CommandRefusal | None) -> None:
    if refusal is not None:
        raise CommandRefused.of(refusal)


def _not_recorded(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the node's disk is full, so that it cannot record the command"
    return f"the node cannot record the command: {error.strerror}"
