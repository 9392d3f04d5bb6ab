"""The exit status of `trunkline run`: the command's own where it has one.

A command killed by signal n gives 128 + n, one that ran out of time 124 (as with timeout(1)), a cancelled one 130, and
one whose node lost it 69. Of several nodes the status is 0 only if all are, else the largest of theirs.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from trunkline.cli.exits import INTERRUPTED, printable
from trunkline.cli.fleet_changes import never_sent
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.submissions import Standing

TIMED_OUT = 124
_LARGEST_STATUS = 255


def status_of_command(command: Command) -> int:
    """The exit status for one command that has ended."""
    if command.state is CommandState.TIMED_OUT:
        return TIMED_OUT
    if command.state is CommandState.CANCELLED:
        return INTERRUPTED
    if command.state is CommandState.LOST:
        return os.EX_UNAVAILABLE
    if command.signal is not None:
        return 128 + _signal_number(command.signal)
    if command.exit_code is not None:
        return min(max(command.exit_code, 0), _LARGEST_STATUS)
    return 0 if command.state is CommandState.SUCCEEDED else os.EX_UNAVAILABLE


def status_of_commands(commands: Sequence[Command]) -> int:
    """The exit status for all: 0 only if each one's is, else the largest."""
    return max((status_of_command(command) for command in commands), default=0)


def status_of_fleet(standing: Standing) -> int:
    """The exit status for all: 0 only if each one's is, else the largest.

    That of commands which a stop kept from their nodes counts only where no other says what went wrong.
    """
    kept = {command.command_id for command in never_sent(standing)}
    sent = [status_of_command(command) for command in standing.commands if command.command_id not in kept]
    return max(sent, default=0) or (130 if kept else 0)


def remark_on(command: Command, *, several: bool) -> str | None:
    """A line on how a command ended, where its output and the exit status alone do not say it."""
    endings = {
        CommandState.TIMED_OUT: "timed out",
        CommandState.CANCELLED: "cancelled",
        CommandState.LOST: "lost" if command.reason else "lost: its node no longer knows how it ended",
    }
    ending = endings.get(command.state)
    if ending is None and command.signal is not None:
        ending = f"killed by signal {command.signal}"
    if ending is None and command.exit_code is None and command.state is CommandState.FAILED:
        ending = "could not be run"
    if ending is None and several and command.exit_code:
        ending = f"exit status {command.exit_code}"
    if ending is None:
        return None
    says_more = command.state in (CommandState.LOST, CommandState.FAILED) and command.signal is None
    reason = f" ({command.reason})" if command.reason and says_more else ""
    return printable(f"{command.node or command.node_id}: {ending}{reason}")


def cut_of(command: Command) -> str | None:
    """A line on what the node dropped of a command's output, if it did."""
    dropped = {"output": command.stdout_dropped_bytes, "standard error": command.stderr_dropped_bytes}
    cuts = [f"{size} bytes at the end of its {name}" for name, size in dropped.items() if size]
    if not cuts:
        return None
    why = "they are beyond what is kept, or the disk did not take them"
    return printable(f"{command.node or command.node_id}: dropped {' and '.join(cuts)}: {why}")


def _signal_number(value: int | str) -> int:
    if isinstance(value, int):
        return value
    try:
        return signal.Signals[value].value
    except KeyError:
        return 0
