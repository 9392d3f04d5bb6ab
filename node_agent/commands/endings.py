"""What a supervisor's ending, or its silence, means for the state of its command."""

import signal
from typing import Any

from node_agent.commands.command import Command
from node_agent.commands.states import CommandEvent, CommandState

SUPERVISOR_ENDED = "its supervisor ended before the command did; its outcome is not known"
AGENT_ENDED = "the agent ended before the command did; its outcome is not known"
NODE_REBOOTED = "the node was booted again before the command ended; its outcome is not known"
NEVER_STARTED = "the agent ended before the command was started"
DAMAGED = "its record on the disk was damaged"
CANCEL = "cancel"
TIMEOUT = "timeout"
AGENT = "agent"
SIGNALLED = "signalled"

_EVENT_OF_CAUSE = {
    TIMEOUT: CommandEvent.TIME_RAN_OUT,
    AGENT: CommandEvent.AGENT_ENDED,
    SIGNALLED: CommandEvent.AGENT_ENDED,
}


def take_started(command: Command, started: dict[str, Any], now: float) -> None:
    """Let the command have started, as its supervisor says."""
    record = command.record
    record.pid, record.pid_start_ticks = started.get("pid"), started.get("start_ticks")
    command.happened(CommandEvent.STARTED, _seconds(started.get("start_time"), now))


def take_ending(command: Command, ending: dict[str, Any], now: float) -> None:
    """Let the command have ended as its supervisor recorded; `now`, in seconds, is for what that does not say."""
    record = command.record
    end = _seconds(ending.get("end_time"), now)
    _take_output(command, ending)
    if isinstance(lost := ending.get("lost"), str):
        command.happened(CommandEvent.AGENT_ENDED, end, reason=lost)
        return
    if isinstance(failed := ending.get("failed"), str):
        cancelled = ending.get("cause") == CANCEL and record.state is CommandState.QUEUED
        event = CommandEvent.CANCEL_ASKED if cancelled else CommandEvent.START_FAILED
        command.happened(event, end, reason=ending.get("reason") if cancelled else failed)
        return
    if record.state is CommandState.QUEUED:
        take_started(command, ending, now)
    record.exit_code, record.signal = ending.get("exit_code"), ending.get("signal")
    _take_usage(command, ending.get("usage"))
    cause = ending.get("cause")
    if cause == CANCEL and record.state is CommandState.RUNNING:
        command.happened(CommandEvent.CANCEL_ASKED, end, reason=ending.get("reason"))
    by_itself = CommandEvent.EXITED_WELL if record.exit_code == 0 else CommandEvent.EXITED_BADLY
    command.happened(_EVENT_OF_CAUSE.get(str(cause), by_itself), end, reason=_reason(command, ending))


def _take_output(command: Command, ending: dict[str, Any]) -> None:
    """Take the final sizes; where the ending does not have them, what is known stays."""
    output = ending.get("output")
    if isinstance(output, list) and len(output) == 2:
        # A supervisor outlives its agent, and may be of a later release than this one, which adds members at the end.
        (stdout, stdout_dropped, stdout_refused, *_), (stderr, stderr_dropped, stderr_refused, *_) = output
        command.grown([stdout, stdout_dropped, stderr, stderr_dropped])
        command.record.output_refused = stdout_refused or stderr_refused


def _take_usage(command: Command, usage: Any) -> None:
    if isinstance(usage, dict):
        command.record.usage = {name: value for name, value in usage.items() if name != "oom_kills"}
        command.record.oom_killed = bool(usage.get("oom_kills")) or None


def _reason(command: Command, ending: dict[str, Any]) -> str | None:
    record, cause, said = command.record, ending.get("cause"), ending.get("reason")
    if cause == TIMEOUT:
        return f"it was ended when its {record.timeout_seconds:g} seconds had passed"
    if cause == CANCEL or record.state is CommandState.CANCELLING:
        return record.reason or said
    if record.output_refused is not None and record.signal == signal.SIGPIPE:
        return f"the node could not keep its output ({record.output_refused}), and it ended by SIGPIPE"
    if record.oom_killed and cause is None and record.exit_code != 0:
        return "it, or a process of it, was killed by the kernel for want of memory"
    if cause is None and said is None and record.signal is not None:
        return f"it was ended by signal {record.signal} ({_signal_name(record.signal)})"
    return said if isinstance(said, str) else None


def _seconds(milliseconds: Any, now: float) -> float:
    return milliseconds / 1000 if isinstance(milliseconds, int) else now


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"
