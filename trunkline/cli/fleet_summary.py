"""How a submission went, in the end: a table of its nodes with their exit statuses, and one line."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from trunkline.cli.command_status import status_of_command
from trunkline.cli.exits import printable
from trunkline.cli.fleet_changes import never_sent
from trunkline.cli.tables import whole
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.submissions import Standing

MOST_ROWS = 50
_STYLES = {CommandState.SUCCEEDED: "green", CommandState.CANCELLED: "yellow"}


def summary_table(standing: Standing) -> Table:
    """A row for each node; of more than `MOST_ROWS`, only for those that did not succeed."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    waves = standing.submission.rollout is not None
    for heading in ("NODE", *(["WAVE"] if waves else []), "STATE", "STATUS", "SECONDS", "REASON"):
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for command in _shown(standing.commands):
        state = Text(command.state.value, style=_STYLES.get(command.state, "red"))
        name = Text(printable(command.node or command.node_id))
        wave = [str(command.wave or "-")] if waves else []
        # Text, since a string would be read as markup, which makes styles and links, or is an error.
        reason = Text(printable(command.reason or "-"))
        table.add_row(name, *wave, state, _status(command), _seconds(command), reason)
    return table


def summary_line(standing: Standing) -> str:
    """What came of all of it."""
    counts = standing.submission.counts
    parts = [f"{counts[state]} {state.lower().replace('_', ' ')}" for state in CommandState if counts.get(state)]
    line = f"{standing.submission.nodes} nodes: {', '.join(parts)}"
    stopped = standing.submission.stop_reason
    if stopped is None:
        return line
    return printable(f"{line}; stopped: {stopped}; never sent to {len(never_sent(standing))}")


def print_summary(standing: Standing, console: Console) -> None:
    """Write the table, as wide as it is, and the line."""
    console.print(whole(summary_table(standing), console), soft_wrap=True, end="")
    console.print(Text(summary_line(standing)), soft_wrap=True)


def error_console() -> Console:
    """A console on standard error."""
    return Console(stderr=True, highlight=False)


def _shown(commands: Sequence[Command]) -> Sequence[Command]:
    if len(commands) <= MOST_ROWS:
        return commands
    return [command for command in commands if command.state is not CommandState.SUCCEEDED]


def _status(command: Command) -> str:
    began = command.state.final and not (command.state is CommandState.CANCELLED and command.start_time is None)
    return str(status_of_command(command)) if began else "-"


def _seconds(command: Command) -> str:
    if command.start_time is None or command.end_time is None:
        return "-"
    return f"{(command.end_time - command.start_time) / 1000:.1f}"
