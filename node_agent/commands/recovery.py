"""What a new agent makes of the commands of the one before it: those that had not ended are lost, and are ended."""

import asyncio

from certs.bindings import LONGEST_SUBMIT_SECONDS
from node_agent.commands.command import Command
from node_agent.commands.proc import FormerRun, kill_left_behind
from node_agent.commands.records import CommandRecord, CommandStore, OutputStream
from node_agent.commands.states import CommandEvent, CommandState
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

AGENT_ENDED = "the agent ended before the command did; its outcome is not known"
NODE_REBOOTED = "the node was booted again before the command ended; its outcome is not known"
NEVER_STARTED = "the agent ended before the command was started"
DAMAGED = "its record on the disk was damaged"
_LOST_TOKEN = ""  # no token has this id


async def recover(store: CommandStore, boot_id: str, clock: Clock, log: Logger) -> list[Command]:
    """Load all commands, oldest first; those that had not ended are `LOST`, and their processes are killed."""
    loaded = await asyncio.to_thread(lambda: list(store.load()))
    commands = [_command(command_id, record, boot_id, clock) for command_id, record in loaded]
    lost = [command for command in commands if not command.state.terminal]
    killed = await asyncio.to_thread(kill_left_behind, _runs(lost, boot_id))
    for command in lost:
        await _lose(command, store, boot_id, clock, log, killed=command.record.run_id in killed)
    return sorted(commands, key=lambda command: command.record.submit_time)


def _runs(lost: list[Command], boot_id: str) -> list[FormerRun]:
    records = [command.record for command in lost if command.record.boot_id == boot_id]
    return [FormerRun(record.run_id, record.pid, record.pid_start_ticks) for record in records]


async def _lose(
    command: Command, store: CommandStore, boot_id: str, clock: Clock, log: Logger, *, killed: bool
) -> None:
    record = command.record
    started = record.state is not CommandState.QUEUED
    reason = AGENT_ENDED if started else NEVER_STARTED
    if record.boot_id != boot_id:
        reason = NODE_REBOOTED
    record.stdout_bytes = store.spooled_bytes(record.command_id, OutputStream.STDOUT)
    record.stderr_bytes = store.spooled_bytes(record.command_id, OutputStream.STDERR)
    command.happened(CommandEvent.AGENT_ENDED, clock.now(), reason=reason)
    log.warning("command.lost", command_id=record.command_id, reason=reason, processes_killed=killed)
    try:
        await command.save(store)
    except OSError as error:
        log.error("command.not_saved", command_id=record.command_id, reason=error.strerror)


def _command(command_id: str, record: CommandRecord | None, boot_id: str, clock: Clock) -> Command:
    if record is not None:
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
