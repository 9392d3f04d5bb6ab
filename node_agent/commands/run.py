"""One run of a command: from the free slot to the terminal state, or until it is left to the next agent."""

import asyncio
from typing import Any

from node_agent.commands.accounts import Account, NoAccount, find_account
from node_agent.commands.command import Command, StopCause
from node_agent.commands.endings import AGENT, CANCEL, NEVER_STARTED, SUPERVISOR_ENDED, take_ending, take_started
from node_agent.commands.left_behind import clear_left_behind
from node_agent.commands.process import StartFailed, command_environment
from node_agent.commands.records import CommandStore, OutputStream
from node_agent.commands.secret_source import Provided, SecretSource, SecretsUnavailable
from node_agent.commands.start_plan import StartPlan, kept_plan, wanted_of
from node_agent.commands.states import CommandEvent, CommandState
from node_agent.commands.supervisor_process import SupervisorProcess
from node_agent.supervisor.launch import ExitStatus
from node_agent.supervisor.plan import Limits, Plan, User
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

# How long a supervisor that is to end its command may take beyond the grace, before it is taken for stuck.
PATIENCE_SECONDS = 15.0
# How long an agent that ends waits for supervisors that are coming up.
START_PATIENCE_SECONDS = 10.0
# How often what the system has no descriptors for is tried again.
TRY_AGAIN_SECONDS = 1.0
# For how long, and how often, a supervisor is started again whose program does not load: an upgrade replaces its files.
LOADING_SECONDS = 30.0
LOAD_AGAIN_SECONDS = 0.25


class CommandRun:
    """Follows one command; afterwards it is in a terminal state, or left to the next agent."""

    def __init__(
        self,
        command: Command,
        store: CommandStore,
        secrets: SecretSource,
        clock: Clock,
        log: Logger,
        *,
        max_output_bytes: int,
        grace_seconds: float,
    ) -> None:
        record = command.record
        self._command = command
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._log = log
        self._max_output_bytes = record.max_output_bytes or max_output_bytes
        self._grace_seconds = grace_seconds if record.grace_seconds is None else record.grace_seconds
        self._supervisor: SupervisorProcess | None = None
        loop = asyncio.get_running_loop()
        self._stop_asked: asyncio.Future[StopCause] = loop.create_future()
        self._left: asyncio.Future[None] = loop.create_future()
        command.stop_asked = self._stop_asked

    async def start(self, given: StartPlan | None) -> None:
        """Start the command, which is `QUEUED`, by the plan given or else the one that is kept, and follow it."""
        plan = given
        try:
            plan = given or await self._kept()
            provided = await self._provided(plan)
            await self._bring_up(plan, provided)
        except StartFailed as error:
            self._command.happened(CommandEvent.START_FAILED, self._clock.now(), reason=str(error))
        unstarted = plan if self._supervisor is None else None
        del plan, given  # megabytes, perhaps, that nobody needs for as long as the command runs
        await self._to_end(unstarted)

    async def adopt(self, supervisor: SupervisorProcess) -> None:
        """Follow a command whose supervisor was found again."""
        self._supervisor = supervisor
        if self._command.state is CommandState.CANCELLING:  # which the agent before this one may not have told it
            self._command.ask_stop(StopCause.CANCEL)
        await self._to_end(None)

    def leave(self) -> None:
        """Follow the command no longer: one that runs goes on, and one that was not started stays `QUEUED`."""
        self._command.ask_stop(StopCause.LEFT)
        if not self._left.done():
            self._left.set_result(None)

    def stdin_grown(self) -> None:
        """Tell the supervisor how much there is of a standard input that follows."""
        if self._supervisor is not None:
            self._supervisor.tell({"stdin_bytes": self._command.record.stdin_bytes})

    def end(self) -> None:
        """Have the command ended because the agent ends."""
        self._command.ask_stop(StopCause.AGENT)

    def kill(self) -> None:
        """Have the command killed at once, if it runs; the run then comes to its end."""
        if self._supervisor is not None and not self._supervisor.gone.done():
            self._supervisor.stop(AGENT, None, 0.0)

    async def _to_end(self, plan: StartPlan | None) -> None:
        command = self._command
        if self._supervisor is not None:
            await self._follow(self._supervisor)
        if not command.state.terminal:
            if command.state is CommandState.QUEUED and self._supervisor is None and plan is not None:
                await self._keep(plan)
            return
        await settle(command, self._store, self._log)
        record = command.record
        self._log.info("command.ended", command_id=command.command_id, state=record.state.value, reason=record.reason)

    async def _kept(self) -> StartPlan:
        """Return the plan that is on the disk."""
        try:
            plan = await asyncio.to_thread(kept_plan, self._store, self._command.command_id)
        except ValueError:
            plan = None
        if plan is None:
            raise StartFailed("cannot start it: what it was submitted with cannot be read from the node's disk")
        return plan

    async def _keep(self, plan: StartPlan) -> None:
        """Keep the plan for the agent that will start the command."""
        command = self._command
        try:
            await in_thread(self._store.keep_plan, command.command_id, plan.to_json())
        except OSError:
            command.happened(CommandEvent.AGENT_ENDED, self._clock.now(), reason=NEVER_STARTED)
            await self._save()

    async def _provided(self, plan: StartPlan) -> Provided | None:
        """Return what the command is given of the workspace's secrets, if it names some and is still to start."""
        wanted = wanted_of(self._command.record, plan)
        if wanted is None:
            return None
        try:
            return await self._secrets.provide(wanted, self._stop_asked)
        except SecretsUnavailable as error:
            if self._stop_asked.done():
                return None
            raise StartFailed(f"cannot start it: {error}") from None

    def _stopped_before_start(self) -> bool:
        """Let the end happen that was asked for before there was anything to end; return whether it was."""
        if not self._stop_asked.done():
            return False
        events = {StopCause.CANCEL: CommandEvent.CANCEL_ASKED, StopCause.AGENT: CommandEvent.AGENT_ENDED}
        event = events.get(self._stop_asked.result())
        if event is not None:
            reason = NEVER_STARTED if event is CommandEvent.AGENT_ENDED else None
            self._command.happened(event, self._clock.now(), reason=reason)
        return True

    async def _bring_up(self, plan: StartPlan, provided: Provided | None) -> None:
        """Start the supervisor, unless the end was asked for; and again for as long as its program does not load."""
        give_up_at = self._clock.monotonic() + LOADING_SECONDS
        while not self._stopped_before_start():
            self._supervisor = await self._launched(plan, provided)
            if not await self._does_not_load(self._supervisor) or self._clock.monotonic() >= give_up_at:
                return
            self._supervisor = None
            await asyncio.wait({self._stop_asked}, timeout=LOAD_AGAIN_SECONDS)
        if provided is not None:
            await self._secrets.remove(provided)

    async def _does_not_load(self, supervisor: SupervisorProcess) -> bool:
        """Whether it ended before it took the command, for want of its program or by an error in it."""
        await self._come_up(supervisor)
        if not supervisor.gone.done() or supervisor.status != ExitStatus.UNCAUGHT:
            return False
        try:
            return (await asyncio.to_thread(self._store.traces, self._command.command_id)).claim is None
        except OSError:
            return False

    async def _launched(self, plan: StartPlan, provided: Provided | None) -> SupervisorProcess:
        try:
            account = await asyncio.to_thread(find_account, self._command.record.user)
            directory = self._store.directory_of(self._command.command_id)
            supervised = self._plan(plan, account, provided)
            # Whoever finds the plan may start the command: from here on nobody but this supervisor may.
            await in_thread(self._store.remove_plan, self._command.command_id)
            passed = self._command.stdin(self._store).passed
            return await SupervisorProcess.start(directory, supervised, self._command.grown, passed)
        except NoAccount as error:
            failure = StartFailed(str(error))
        except OSError as error:
            failure = StartFailed(f"cannot start its supervisor: {error.strerror}")
        if provided is not None:
            await self._secrets.remove(provided)
        raise failure

    def _plan(self, plan: StartPlan, account: Account, provided: Provided | None) -> Plan:
        record = self._command.record
        given = {} if provided is None else provided.environment
        variables = command_environment(account, record.command_id, record.run_id, {**plan.environment, **given})
        directory = None if provided is None else provided.directory
        return Plan(
            run_id=record.run_id,
            argv=tuple(plan.argv or record.argv),
            environment={name: text.encode() if isinstance(text, str) else text for name, text in variables.items()},
            working_directory=record.working_directory or account.home,
            user=User(account.uid, account.gid, account.groups) if account.switched else None,
            timeout_seconds=record.timeout_seconds or 0.0,
            grace_seconds=self._grace_seconds,
            max_output_bytes=self._max_output_bytes,
            limits=Limits(**(record.limits or {})),
            stdin=plan.stdin,
            stdin_streamed=record.stdin_streamed,
            patterns=() if provided is None else provided.patterns,
            secrets_directory=None if directory is None else str(directory),
        )

    async def _follow(self, supervisor: SupervisorProcess) -> None:
        """Follow the supervisor until it has gone, or the command is left, but not before that has begun."""
        if self._command.record.stdin_streamed:
            self.stdin_grown()
        await self._come_up(supervisor)
        if supervisor.started.done() and (started := supervisor.started.result()) is not None:
            await self._started(started)
        await self._until(supervisor.gone, self._stop_asked)
        if self._stop_asked.done():
            self._stop(supervisor)
            await self._until_stopped(supervisor)
        if self._left.done():
            supervisor.leave()
        else:
            await self._ended(supervisor)

    async def _come_up(self, supervisor: SupervisorProcess) -> None:
        """Wait until the supervisor has started the program, or has gone; not for long once the end was asked for."""
        ends: set[asyncio.Future[Any]] = {supervisor.started, self._stop_asked}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not supervisor.started.done():
            self._stop(supervisor)
            await asyncio.wait({supervisor.started}, timeout=START_PATIENCE_SECONDS)

    async def _until(self, *ends: "asyncio.Future[Any]") -> None:
        await asyncio.wait({*ends, self._left}, return_when=asyncio.FIRST_COMPLETED)

    def _stop(self, supervisor: SupervisorProcess) -> None:
        cause = self._stop_asked.result()
        if cause is not StopCause.LEFT:
            reason = self._command.record.reason if cause is StopCause.CANCEL else "the agent ended it"
            supervisor.stop(CANCEL if cause is StopCause.CANCEL else AGENT, reason, self._grace_seconds)

    async def _until_stopped(self, supervisor: SupervisorProcess) -> None:
        """Wait for the end that was asked for; a supervisor that does not see to it is killed.

        One that has, and waits for a slow or full disk to take output and ending, is let be.
        """
        patience = self._grace_seconds + PATIENCE_SECONDS
        await asyncio.wait({supervisor.gone, self._left}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not self._left.done() and not supervisor.gone.done() and not supervisor.over:
            self._log.error("command.supervisor_stuck", command_id=self._command.command_id, pid=supervisor.pid)
            supervisor.kill()
        await self._until(supervisor.gone)

    async def _started(self, started: dict[str, Any]) -> None:
        command = self._command
        if command.state is not CommandState.QUEUED:
            return  # the agent before this one has recorded it
        take_started(command, started, self._clock.now())
        if self._stop_asked.done() and self._stop_asked.result() is StopCause.CANCEL:
            command.happened(CommandEvent.CANCEL_ASKED, self._clock.now())
        record = command.record
        self._log.info("command.started", command_id=record.command_id, pid=record.pid, user=record.user)
        await self._save()

    async def _ended(self, supervisor: SupervisorProcess) -> None:
        """Take how the command ended, once that can be found out; one that is left before stays as it is."""
        told = False
        while not self._left.done():
            try:
                await self._take_end(supervisor)
            except OSError as error:
                if not told:
                    command_id, consequence = self._command.command_id, "it is tried again until it can be"
                    self._log.error(
                        "command.end_not_read", command_id=command_id, reason=error.strerror, consequence=consequence
                    )
                told = True
                await asyncio.wait({self._left}, timeout=TRY_AGAIN_SECONDS)
            else:
                return
        supervisor.leave()

    async def _take_end(self, supervisor: SupervisorProcess) -> None:
        """Take what the supervisor recorded, or see to what it left behind.

        Raises:
            OSError: the system gives no descriptor for looking.
        """
        command, now = self._command, self._clock.now()
        traces = await asyncio.to_thread(self._store.traces, command.command_id)
        if traces.ending is not None:
            take_ending(command, traces.ending, now)
        elif traces.claim is None and command.state is CommandState.QUEUED:
            reason = supervisor.failed or f"its supervisor could not be started ({_status(supervisor.status)})"
            command.happened(CommandEvent.START_FAILED, now, reason=reason)
        else:
            await lose(command, self._store, self._clock, self._log, SUPERVISOR_ENDED)

    async def _save(self) -> None:
        await save(self._command, self._store, self._log)


async def lose(
    command: Command, store: CommandStore, clock: Clock, log: Logger, reason: str, *, of_this_boot: bool = True
) -> None:
    """End what is left of a command whose end nobody saw, and let it be `LOST`.

    Of a command of another boot (`of_this_boot`) nothing is left, and what has its numbers is a stranger.

    Raises:
        OSError: the system gives no descriptor for looking what is left; the command has not ended by that.
    """
    record = command.record
    traces = await asyncio.to_thread(store.traces, record.command_id)
    if record.state is CommandState.QUEUED and traces.started is not None:
        take_started(command, traces.started, clock.now())
    program, lived = (record.pid, record.pid_start_ticks), False
    if of_this_boot:
        lived = await asyncio.to_thread(clear_left_behind, record.run_id, traces.claim, [program])
    sizes = [store.spooled_bytes(record.command_id, stream) for stream in OutputStream]
    command.grown([sizes[0], record.stdout_dropped_bytes, sizes[1], record.stderr_dropped_bytes])
    command.happened(CommandEvent.AGENT_ENDED, clock.now(), reason=reason)
    log.warning("command.lost", command_id=record.command_id, reason=reason, processes_killed=lived)


async def settle(command: Command, store: CommandStore, log: Logger) -> bool:
    """Record the end for good; what the supervisor had recorded of it is then no longer needed.

    A full disk does not take the record, and lets go of what a start would need: so the next agent finds nothing to
    start all the same. Returns whether one of the two was done.
    """
    saved = await save(command, store, log)
    try:
        await in_thread(store.settle if saved else store.remove_plan, command.command_id)
    except OSError as error:
        log.error("command.not_settled", command_id=command.command_id, reason=error.strerror)
        return saved
    return True


async def save(command: Command, store: CommandStore, log: Logger) -> bool:
    """Bring the record to the disk; return whether that was done (else it is tried again later)."""
    try:
        await command.save(store)
    except OSError as error:
        consequence = "it is tried again until the disk takes it"
        log.error("command.not_saved", command_id=command.command_id, reason=error.strerror, consequence=consequence)
        return False
    return True


def _status(status: int | None) -> str:
    if status is None:
        return "nobody knows why"
    if status == ExitStatus.UNCAUGHT:
        return "its program does not load: where another release was installed meanwhile, start the agent again"
    return f"it was killed by signal {-status}" if status < 0 else f"it ended with status {status}"
