"""That it is not known how a command goes on, since its node cannot be asked: told on standard error.

A relay or an agent that is started again is away for a moment, of which nobody needs to hear. What lasts longer, as of
a node that was locked or revoked, is told with its reason and with what will end it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from trunkline.cli.exits import printable
from trunkline.client.commands import SLOWEST_POLL_SECONDS
from trunkline.client.records.commands import Command, CommandState

PATIENCE_SECONDS = SLOWEST_POLL_SECONDS + 1.0
"""Longer than the pause between two looks at a command, so that one look that failed is none to tell of."""
MOST_NOTES = 3


@dataclass(slots=True)
class _Unheard:
    """A command that is `UNKNOWN`, as it was found last; `timer` until it is told of."""

    command: Command
    timer: asyncio.TimerHandle | None
    told: bool = False


class UnheardNotes:
    """Tells of commands that stay `UNKNOWN` for `PATIENCE_SECONDS`, of each `MOST_NOTES` times at most.

    It is used on an event loop, whose time is that of the patience.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._unheard: dict[str, _Unheard] = {}
        self._notes: Counter[str] = Counter()

    def note(self, command: Command) -> None:
        """Take note of a command as it was found, which waits for no delivery."""
        if command.state is not CommandState.UNKNOWN:
            self._heard_of(command)
            return
        found = self._unheard.get(command.command_id)
        if found is None:
            timer = asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._tell_of, command.command_id)
            self._unheard[command.command_id] = _Unheard(command, timer)
            return
        before, found.command = found.command.reason, command
        if found.timer is None and command.reason != before:
            self._tell_of(command.command_id)

    def _tell_of(self, command_id: str) -> None:
        found = self._unheard[command_id]
        found.timer = None
        if self._notes[command_id] < MOST_NOTES:
            self._notes[command_id] += 1
            found.told = True
            self._tell(_line(found.command))

    def _heard_of(self, command: Command) -> None:
        found = self._unheard.pop(command.command_id, None)
        if found is None:
            return
        if found.timer is not None:
            found.timer.cancel()
        if found.told and not command.state.final:  # its end is told of as any other
            self._tell(printable(f"{command.node or command.node_id}: the node answers again"))


def _line(command: Command) -> str:
    resolves = f"; known {command.unknown.resolves}" if command.unknown and command.unknown.resolves else ""
    reason = command.reason or "the node cannot be asked"
    return printable(f"{command.node or command.node_id}: not known how it goes on: {reason}{resolves}")
