"""One run of a command: from the free slot to the terminal state, each step recorded before the next."""

import asyncio
import signal
from dataclasses import replace
from typing import Any

from node_agent.commands.command import Command, StopCause
from node_agent.commands.process import Ending, Process, ProcessPlan, StartFailed
from node_agent.commands.records import CommandStore
from node_agent.commands.recovery import NEVER_STARTED
from node_agent.commands.secret_source import Provided, SecretSource, SecretsUnavailable, Wanted
from node_agent.commands.states import CommandEvent, CommandState
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

_EVENT_OF_CAUSE = {StopCause.TIMEOUT: CommandEvent.TIME_RAN_OUT, StopCause.AGENT: CommandEvent.AGENT_ENDED}


class CommandRun:
    """Runs one command that is `QUEUED`; afterwards it is in a terminal state, whatever happened."""

    def __init__(
        self,
        command: Command,
        plan: ProcessPlan,
        store: CommandStore,
        clock: Clock,
        log: Logger,
        *,
        max_output_bytes: int,
        grace_seconds: float,
        secrets: tuple[SecretSource, Wanted] | None = None,
    ) -> None:
        self._command = command
        self._plan = plan
        self._store = store
        self._clock = clock
        self._log = log
        self._max_output_bytes = max_output_bytes
        self._grace_seconds = grace_seconds
        self._secrets = secrets
        self._process: Process | None = None

    async def run(self) -> None:
        """Start the process, wait for its end or end it, and record what came of it."""
        command = self._command
        try:
            if self._secrets is None:
                await self._run_unless_cancelled(None)
            else:
                await self._run_with_secrets(*self._secrets)
        except StartFailed as error:
            command.close_spools()
            command.happened(CommandEvent.START_FAILED, self._clock.now(), reason=str(error))
        await self._save()
        record = command.record
        self._log.info("command.ended", command_id=command.command_id, state=record.state.value, reason=record.reason)

    def kill(self) -> None:
        """Kill the process at once, if there is one; the run then comes to its end."""
        if self._process is not None and not self._process.exited.done():
            self._process.signal_group(signal.SIGKILL)

    async def _run_with_secrets(self, source: SecretSource, wanted: Wanted) -> None:
        """Run it with what it names, which is taken back when it has ended, however it ends."""
        stop_asked = self._command.stop_asked
        if stop_asked is None:  # whoever starts the run makes it
            raise AssertionError("a run needs the command's stop_asked")
        try:
            provided = await source.provide(wanted, stop_asked)
        except SecretsUnavailable as error:
            if not self._stopped_before_start(stop_asked):
                raise StartFailed(f"cannot start it: {error}") from None
            return
        try:
            await self._run_unless_cancelled(provided)
        finally:
            await source.remove(provided)

    def _stopped_before_start(self, stop_asked: asyncio.Future[StopCause]) -> bool:
        """Let the end happen that was asked for while the command waited for its secrets; return whether it was."""
        if self._cancelled_before(CommandState.QUEUED):
            return True
        if not stop_asked.done():
            return False
        self._command.happened(CommandEvent.AGENT_ENDED, self._clock.now(), reason=NEVER_STARTED)
        return True

    async def _run_unless_cancelled(self, provided: Provided | None) -> None:
        if not self._cancelled_before(CommandState.QUEUED):
            await self._run_to_end(await self._start(provided))

    async def _run_to_end(self, process: Process) -> None:
        self._process = process
        await self._started(process)
        cause = await self._until_end(process)
        self._ended(cause, await process.finish())

    def _cancelled_before(self, state: CommandState) -> bool:
        """Let a cancel happen that came while the command could not hear it; return whether there was one."""
        stop_asked = self._command.stop_asked
        if stop_asked is None or not stop_asked.done() or stop_asked.result() is not StopCause.CANCEL:
            return False
        if self._command.state is state:
            self._command.happened(CommandEvent.CANCEL_ASKED, self._clock.now())
        return True

    async def _start(self, provided: Provided | None) -> Process:
        try:
            stdout, stderr = self._command.open_spools(self._store, self._max_output_bytes)
        except OSError as error:
            raise StartFailed(f"there is no place for its output: {error.strerror}") from None
        if provided is None:
            return await Process.start(self._plan, stdout, stderr)
        plan = replace(self._plan, environment={**self._plan.environment, **provided.environment})
        return await Process.start(plan, provided.guarded(stdout), provided.guarded(stderr))

    async def _started(self, process: Process) -> None:
        record = self._command.record
        record.pid, record.pid_start_ticks = process.pid, process.pid_start_ticks
        self._command.happened(CommandEvent.STARTED, self._clock.now())
        self._cancelled_before(CommandState.RUNNING)
        self._log.info("command.started", command_id=record.command_id, pid=process.pid, user=record.user)
        await self._save()

    async def _until_end(self, process: Process) -> StopCause | None:
        """Wait for the process; return why it was ended, or None if it ended by itself."""
        stop_asked = self._command.stop_asked
        if stop_asked is None:  # whoever starts the run makes it
            raise AssertionError("a run needs the command's stop_asked")
        timeout_seconds = self._command.record.timeout_seconds
        ends: set[asyncio.Future[Any]] = {process.exited, stop_asked}
        await asyncio.wait(ends, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if process.exited.done():
            return None
        cause = stop_asked.result() if stop_asked.done() else StopCause.TIMEOUT
        await process.stop(self._grace_seconds)
        return cause

    def _ended(self, cause: StopCause | None, ending: Ending) -> None:
        command, record = self._command, self._command.record
        command.close_spools()
        record.exit_code, record.signal = ending.exit_code, ending.signal
        by_itself = CommandEvent.EXITED_WELL if ending.well else CommandEvent.EXITED_BADLY
        event = by_itself if cause is None else _EVENT_OF_CAUSE.get(cause, by_itself)
        command.happened(event, self._clock.now(), reason=self._reason(cause, ending))

    def _reason(self, cause: StopCause | None, ending: Ending) -> str | None:
        if cause is StopCause.TIMEOUT:
            return f"it was ended when its {self._command.record.timeout_seconds:g} seconds had passed"
        if cause is StopCause.AGENT:
            return "the agent stopped, and ended it"
        if cause is None and ending.signal is not None and self._command.state is CommandState.RUNNING:
            return f"it was ended by signal {ending.signal} ({_signal_name(ending.signal)})"
        return None

    async def _save(self) -> None:
        try:
            await self._command.save(self._store)
        except OSError as error:
            self._log.error(
                "command.not_saved",
                command_id=self._command.command_id,
                reason=error.strerror,
                consequence="it is tried again until the disk takes it",
            )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
