"""What a new agent makes of the commands of the one before it: what runs is followed, what waited is started.

The files say for certain how far each command came (see `node_agent.supervisor.records`): a claim whose supervisor
lives is followed; with an ending, it has ended so; with neither it is `LOST`, and what is left of it is killed. Without
a claim it was certainly never started: it is started now if its plan was kept, else it is claimed here, and is `LOST`.
A command of another boot is `LOST` whatever its files say, unless it had ended.
"""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certs.bindings import LONGEST_SUBMIT_SECONDS
from node_agent.commands.command import Command
from node_agent.commands.endings import AGENT_ENDED, DAMAGED, NEVER_STARTED, NODE_REBOOTED, take_ending, take_started
from node_agent.commands.left_behind import clear_left_behind
from node_agent.commands.records import CommandRecord, CommandStore
from node_agent.commands.run import lose, settle
from node_agent.commands.start_plan import kept_plan
from node_agent.commands.states import CommandState
from node_agent.commands.supervisor_process import SupervisorProcess
from node_agent.supervisor.records import SHORTAGES
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger
from trunkline.runtime.threads import in_thread

# How long after its own start an agent waits for the claims of supervisors that may be coming up.
CLAIM_SECONDS = 2.0
_CLAIM_PAUSE_SECONDS = 0.05
_LOST_TOKEN = ""  # no token has this id


@dataclass(slots=True)
class Recovered:
    """All commands, oldest first; what runs, with its supervisor; what waits, its plan on the disk; what has ended."""

    commands: list[Command] = field(default_factory=list)
    running: list[tuple[Command, SupervisorProcess]] = field(default_factory=list)
    waiting: list[Command] = field(default_factory=list)
    ended: list[Command] = field(default_factory=list)
    secret_directories: list[Path] = field(default_factory=list)


async def recover(store: CommandStore, boot_id: str, clock: Clock, log: Logger) -> Recovered:
    """Load all commands, and see to those that had not ended.

    Raises:
        OSError: the commands' directory cannot be read, or no descriptor is left.
    """
    loaded = await asyncio.to_thread(lambda: list(store.load()))
    commands = [_command(command_id, record, boot_id, clock) for command_id, record in loaded]
    recovered = Recovered(sorted(commands, key=lambda command: command.record.submit_time))
    recovery = _Recovery(store, boot_id, clock, log, recovered)
    for command in recovered.commands:
        if not command.state.terminal or command.unsaved:
            await recovery.see_to(command)
    return recovered


class _Recovery:
    def __init__(self, store: CommandStore, boot_id: str, clock: Clock, log: Logger, recovered: Recovered) -> None:
        self._store = store
        self._boot_id = boot_id
        self._clock = clock
        self._log = log
        self._recovered = recovered
        self._fence_at = clock.monotonic() + CLAIM_SECONDS

    async def see_to(self, command: Command) -> None:
        """Find out how far a command came, and put it where it belongs."""
        store, record = self._store, command.record
        traces = await asyncio.to_thread(store.traces, command.command_id)
        if command.state.terminal:
            await self._end_unknown(command, traces.claim)
        elif traces.ending is not None:
            take_ending(command, traces.ending, self._clock.now())
        elif record.boot_id != self._boot_id:
            await self._lose(command, NODE_REBOOTED, of_this_boot=False)
        elif traces.claim is not None:
            await self._follow(command, traces.claim, traces.started)
        elif record.state is not CommandState.QUEUED:
            await self._lose(command, AGENT_ENDED)
        elif await self._has_plan(command):
            self._recovered.waiting.append(command)
        else:
            await self._fence(command)
        if command.state.terminal:
            self._recovered.ended.append(command)
            await settle(command, store, self._log)

    async def _follow(self, command: Command, claim: dict[str, Any], started: dict[str, Any] | None) -> None:
        directory = self._store.directory_of(command.command_id)
        passed = command.stdin(self._store).passed
        supervisor = SupervisorProcess.find(directory, claim, command.grown, passed)
        if supervisor is None:
            # It may have recorded the ending between the two looks.
            traces = await asyncio.to_thread(self._store.traces, command.command_id)
            if traces.ending is not None:
                take_ending(command, traces.ending, self._clock.now())
            else:
                await self._lose(command, AGENT_ENDED)
            return
        if started is not None and command.state is CommandState.QUEUED:
            take_started(command, started, self._clock.now())
        await in_thread(self._store.remove_plan, command.command_id)
        self._log.info("command.adopted", command_id=command.command_id, supervisor_pid=supervisor.pid)
        self._recovered.running.append((command, supervisor))
        if isinstance(secrets := claim.get("secrets_directory"), str):
            self._recovered.secret_directories.append(Path(secrets))

    async def _fence(self, command: Command) -> None:
        """See to it that nobody starts the command any more; a supervisor that is faster is followed."""
        await self._wait_for_claim(command)
        try:
            claim = await asyncio.to_thread(self._store.claim, command.command_id, command.record.run_id)
        except OSError as error:
            if error.errno in SHORTAGES:
                raise
            self._log.error("command.not_claimed", command_id=command.command_id, reason=error.strerror)
            claim = None
        if claim is None:
            await self._lose(command, NEVER_STARTED)
        else:
            await self._follow(command, claim, None)

    async def _wait_for_claim(self, command: Command) -> None:
        """Give a supervisor that the agent before this one had just started the time to come up."""
        while self._clock.monotonic() < self._fence_at:
            traces = await asyncio.to_thread(self._store.traces, command.command_id)
            if traces.claim is not None:
                return
            await asyncio.sleep(_CLAIM_PAUSE_SECONDS)

    async def _end_unknown(self, command: Command, claim: dict[str, Any] | None) -> None:
        """End what runs under a record that cannot be read."""
        if claim is None:
            return
        supervisor = SupervisorProcess.find(self._store.directory_of(command.command_id), claim, lambda _: None)
        if supervisor is not None:
            supervisor.kill()
            await supervisor.gone
        await asyncio.to_thread(clear_left_behind, str(claim.get("run_id")), claim, [])

    async def _has_plan(self, command: Command) -> bool:
        """Whether what its start needs is on the disk."""
        try:
            return await asyncio.to_thread(kept_plan, self._store, command.command_id) is not None
        except ValueError:
            return False

    async def _lose(self, command: Command, reason: str, *, of_this_boot: bool = True) -> None:
        await lose(command, self._store, self._clock, self._log, reason, of_this_boot=of_this_boot)


def _command(command_id: str, record: CommandRecord | None, boot_id: str, clock: Clock) -> Command:
    if record is not None:
        if record.state is not CommandState.QUEUED:
            record.shorten()  # an earlier release kept all of them there
        return Command(record, recorded=True)
    now = int(clock.now() * 1000)
    damaged = CommandRecord(
        command_id=command_id,
        fingerprint="",
        argv=[],
        submit_time=now,
        submitted_by="",
        run_id="",
        boot_id=boot_id,
        state=CommandState.LOST,
        end_time=now,
        reason=DAMAGED,
        # Which tokens it was taken with is lost too; until none of its submit can be live its id stays taken.
        token_ids={_LOST_TOKEN: now // 1000 + 2 * LONGEST_SUBMIT_SECONDS},
    )
    return Command(damaged)
