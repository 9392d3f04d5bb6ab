"""Following a submission to its end: one watch for all of its nodes, and the outputs of those that have begun."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from trunkline.cli.fleet_changes import never_began
from trunkline.cli.fleet_views import FleetView
from trunkline.cli.output_copier import OutputCopier
from trunkline.client.commands import CommandApi
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import Command
from trunkline.client.records.submissions import Submission
from trunkline.client.submissions import Standing

MOST_OUTPUTS_AT_ONCE = 100


class FleetFollower:
    """Shows to a view what is watched of a submission, with the outputs of its commands.

    At most `MOST_OUTPUTS_AT_ONCE` commands' outputs are read at once, those that began first before others. With
    `from_now`, what commands had written before is left out.
    """

    def __init__(
        self, commands: CommandApi, standings: AsyncIterator[Standing], view: FleetView, *, from_now: bool = False
    ) -> None:
        self._commands = commands
        self._standings = standings
        self._view = view
        self._skip_written = from_now
        self._slots = asyncio.Semaphore(MOST_OUTPUTS_AT_ONCE)
        self._copiers: dict[str, OutputCopier] = {}
        self._left_out: set[str] = set()
        self._copies: list[asyncio.Task[None]] = []
        self._failed: asyncio.Future[Standing] = asyncio.get_running_loop().create_future()

    async def run(self) -> Standing:
        """Follow until every command has ended, and its output too.

        Raises:
            BrokenPipeError: whoever read our output has gone.
            TrunklineError: the control plane cannot say how the submission is.
        """
        watching = asyncio.create_task(self._watch())
        try:
            first: list[asyncio.Future[Standing]] = [self._failed, watching]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            return (self._failed if self._failed.done() else watching).result()
        finally:
            for task in (watching, *self._copies):
                task.cancel()
            await asyncio.gather(watching, *self._copies, return_exceptions=True)

    async def _watch(self) -> Standing:
        last = None
        async for last in self._standings:
            for command in last.commands:
                self._look_at(command)
            self._view.show(last)
            await self._view.passed()
            self._skip_written = False
        await asyncio.gather(*self._copies)
        assert last is not None  # noqa: S101 - a watch yields at least once, or raises
        return last

    def _look_at(self, command: Command) -> None:
        copier = self._copiers.get(command.command_id)
        if copier is not None:
            copier.ended = command.state.final
            return
        if self._skip_written and command.state.final:
            self._left_out.add(command.command_id)
        if self._wants_output(command) and self._view.outputs is not None:
            copier = OutputCopier(self._commands, command, self._view.outputs)
            copier.ended = command.state.final
            self._copiers[command.command_id] = copier
            copying = self._copy(command, copier, from_now=self._skip_written)
            self._copies.append(asyncio.create_task(copying))

    def _wants_output(self, command: Command) -> bool:
        return not (command.held or never_began(command) or command.command_id in self._left_out)

    async def _copy(self, command: Command, copier: OutputCopier, *, from_now: bool) -> None:
        try:
            async with self._slots:
                await self._copy_whole(command, copier, from_now=from_now)
        except (TrunklineError, OSError) as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _copy_whole(self, command: Command, copier: OutputCopier, *, from_now: bool) -> None:
        """Copy a command's outputs; their end is when the control plane is made to ask for the command's."""
        begin = await self._commands.get(command.command_id) if from_now else None
        try:
            await copier.copy(
                stdout_offset=begin.stdout_bytes if begin else 0, stderr_offset=begin.stderr_bytes if begin else 0
            )
        except TrunklineError as error:
            self._view.output_failed(command, error)
        if not copier.ended:
            with contextlib.suppress(TrunklineError):
                await self._commands.get(command.command_id)


async def standings_of_one(commands: CommandApi, command_id: str) -> AsyncIterator[Standing]:
    """One command of a submission, watched as if it were all of it.

    Raises:
        TrunklineError: there is no such command, or the control plane stays away.
    """
    async for command in commands.watch(command_id):
        state = command.state.value if command.state.final else "RUNNING"
        counts = {command.state.value: 1}
        yield Standing(Submission(submission_id=command.submission_id, state=state, nodes=1, counts=counts), [command])
