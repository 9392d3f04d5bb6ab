"""Why a command is not on its node yet: told on standard error as soon as it is known, once. And what is unheard of."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

import click

from trunkline.cli.exits import line_of, printable
from trunkline.cli.patient_output import Destination
from trunkline.cli.unheard_notes import UnheardNotes
from trunkline.client.commands import CommandApi
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import Command

MOST_NOTES = 3


def tell(line: str) -> None:
    """Write a line about what goes on to standard error."""
    click.echo(f"trunkline: {line}", err=True)


def telling(destination: Destination) -> Callable[[str], None]:
    """As `tell`, to standard error as others write to it."""

    def tell(line: str) -> None:
        destination.write(f"trunkline: {line}\n".encode())
        destination.flush()

    return tell


class DeliveryNotes:
    """Tells why deliveries wait: each reason of a command once, and at most `MOST_NOTES` of them.

    Of commands that are on their nodes it tells when it is not known how they are; see `UnheardNotes`.
    """

    def __init__(self, tell: Callable[[str], None] = tell) -> None:
        self._tell = tell
        self._told: dict[str, set[str]] = defaultdict(set)
        self._unheard = UnheardNotes(tell)

    def note(self, command: Command) -> None:
        """Take note of a command as it was found."""
        if command.deliver_before is None:
            self._unheard.note(command)
            return
        if not command.reason:
            return
        told = self._told[command.command_id]
        if command.reason not in told and len(told) < MOST_NOTES:
            told.add(command.reason)
            self._tell(_line(command, command.reason, command.deliver_before))

    def output_failed(self, command: Command, error: TrunklineError) -> None:
        """Tell that what was shown of a command's output is not all of it."""
        self._tell(printable(f"{command.node or command.node_id}: its output is not whole: {line_of(error)}"))

    async def watch(self, api: CommandApi, command_id: str) -> None:
        """Take note of a command until it has ended; an error ends that: who reads the output meets it too."""
        with contextlib.suppress(TrunklineError):
            async for command in api.watch(command_id):
                self.note(command)


def _line(command: Command, reason: str, deliver_before_ms: int) -> str:
    until = datetime.fromtimestamp(deliver_before_ms / 1000).astimezone()
    return printable(
        f"{command.node or command.node_id}: not delivered yet: {reason} (tried again until {until:%H:%M:%S})"
    )
