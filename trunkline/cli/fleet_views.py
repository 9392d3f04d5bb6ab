"""What is seen of a submission while it goes on: lines, a live display on a terminal, JSON lines, or one document."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from trunkline.cli.command_status import cut_of, remark_on
from trunkline.cli.delivery_notes import DeliveryNotes, tell, telling
from trunkline.cli.exits import printable
from trunkline.cli.fleet_changes import FleetChanges, never_sent
from trunkline.cli.fleet_events import JsonEvents
from trunkline.cli.output_copier import CommandOutputs, by_node
from trunkline.cli.patient_output import Destination, passed, patient
from trunkline.cli.remote_output import OutputFor, outputs_for
from trunkline.client.errors import TrunklineError
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.records.submissions import RolloutProgress
from trunkline.client.submissions import Standing

if TYPE_CHECKING:
    from trunkline.cli.fleet_display import LiveDisplay


class FleetView(Protocol):
    """Is shown a submission again and again.

    Attributes:
        outputs: where outputs go; None if they are not wanted.
    """

    @property
    def outputs(self) -> CommandOutputs | None:
        """See the class."""
        ...

    def show(self, standing: Standing) -> None:
        """Take note of how it stands."""
        ...

    def tell(self, line: str) -> None:
        """Say something beside all this."""
        ...

    def output_failed(self, command: Command, error: TrunklineError) -> None:
        """Take note that not all of a command's output could be had."""
        ...

    def finish(self, standing: Standing, status: int) -> None:
        """Say how it ended; `status` is what the program exits with."""
        ...

    async def passed(self) -> None:
        """Wait until what was shown, the outputs apart, has been taken; raises OSError if it cannot be written."""
        ...


class TextView:
    """Lines on standard error about waves, nodes and reasons, beside the outputs; `paint` shows the rest."""

    def __init__(
        self,
        tell: Callable[[str], None],
        outputs: OutputFor,
        told: Destination,
        paint: Callable[[Standing], None] | None = None,
    ) -> None:
        """Tell lines by `tell`, which writes them to `told`."""
        self.tell = tell
        self._told = told
        self._paint = paint
        self._changes = FleetChanges()
        self._notes = DeliveryNotes(tell)
        self.outputs = by_node(outputs)

    def show(self, standing: Standing) -> None:
        """Tell what is new."""
        rollout = standing.submission.rollout
        kept = {command.command_id for command in never_sent(standing)}
        for command in self._changes.commands(standing):
            self._notes.note(command)
            if command.state.final and command.command_id not in kept:
                self._tell_end(command, several=len(standing.commands) > 1, in_waves=rollout is not None)
        for wave in self._changes.waves(standing):
            if rollout is not None and len(rollout.waves) > 1:
                self.tell(wave_line(rollout, wave, standing.commands))
        if self._paint is not None:
            self._paint(standing)

    def output_failed(self, command: Command, error: TrunklineError) -> None:
        """Tell it."""
        self._notes.output_failed(command, error)

    def finish(self, standing: Standing, status: int) -> None:
        """Print the summary of several nodes."""
        if len(standing.commands) > 1:
            from trunkline.cli.fleet_summary import error_console, print_summary  # which load what draws tables

            print_summary(standing, error_console())

    async def passed(self) -> None:
        """Wait until the lines have been taken."""
        await passed(self._told)

    def _tell_end(self, command: Command, *, several: bool, in_waves: bool) -> None:
        remark = remark_on(command, several=several)
        if remark is None and in_waves and command.state is CommandState.SUCCEEDED:
            remark = printable(f"{command.node or command.node_id}: succeeded")
        for line in (remark, cut_of(command)):
            if line is not None:
                self.tell(line)


class QuietView(TextView):
    """The outputs, and nothing about them but what is missing of them."""

    def show(self, standing: Standing) -> None:
        """Say nothing."""

    def finish(self, standing: Standing, status: int) -> None:
        """Say what was dropped."""
        for command in standing.commands:
            if (cut := cut_of(command)) is not None:
                self.tell(cut)


class DocumentView:
    """One JSON document in the end, without the outputs."""

    outputs = None
    tell = staticmethod(tell)

    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def show(self, standing: Standing) -> None:
        """Wait for the end."""

    def output_failed(self, command: Command, error: TrunklineError) -> None:
        """It was not wanted."""

    def finish(self, standing: Standing, status: int) -> None:
        """Print the document."""
        document = {
            "submission": standing.submission.model_dump(mode="json", exclude_none=True, exclude={"revision"}),
            "commands": [one.model_dump(mode="json", exclude_none=True) for one in standing.commands],
            "status": status,
        }
        self._destination.write(json.dumps(document, indent=2).encode() + b"\n")
        self._destination.flush()

    async def passed(self) -> None:
        """Wait until the document has been taken."""
        await passed(self._destination)


@contextlib.contextmanager
def fleet_view(output: str, nodes: Sequence[str], *, quiet: bool) -> Iterator[FleetView]:
    """The view that was asked for, and that fits where the output goes."""
    stdout, stderr = patient(sys.stdout.buffer), patient(sys.stderr.buffer)
    outputs = outputs_for(list(nodes), stdout, stderr)
    if output == "jsonl":
        yield JsonEvents(stdout)
    elif output == "json":
        yield DocumentView(stdout)
    elif quiet:
        yield QuietView(telling(stderr), outputs, stderr)
    elif len(nodes) > 1 and sys.stderr.isatty():
        from trunkline.cli.fleet_display import LiveDisplay

        with LiveDisplay().running() as display:
            yield TextView(display.tell, _outputs_above(display, list(nodes), stdout), stderr, display.paint)
    else:
        yield TextView(telling(stderr), outputs, stderr)


def _outputs_above(display: LiveDisplay, nodes: list[str], stdout: Destination) -> OutputFor:
    """The outputs beside a live display, which what goes to the same terminal is printed above of."""
    above = display.destination()
    return outputs_for(nodes, above if stdout.isatty() else stdout, above)


def wave_line(rollout: RolloutProgress, wave: int, commands: Sequence[Command]) -> str:
    """That a wave begins, and with which nodes."""
    nodes = [command.node or command.node_id for command in commands if command.wave == wave]
    named = ", ".join(nodes[:5]) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")
    canary = " (canary)" if rollout.canary and wave == 1 else ""
    return printable(f"wave {wave} of {len(rollout.waves)}{canary}: {named}")
