"""Tables for people: apart, since loading what draws them takes longer than most commands that print none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {
    "online": "green",
    "ok": "green",
    "SUCCEEDED": "green",
    "degraded": "yellow",
    "RUNNING": "yellow",
    "QUEUED": "yellow",
    "offline": "red",
    "FAILED": "red",
    "TIMED_OUT": "red",
    "LOST": "red",
    "IN_FORCE": "red",
}
_PIPE_WIDTH = 10_000


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a list, each of its rows in one line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*map(_cell, row))
    _print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and what they have, a line each; what is long goes on in the next line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in fields:
        table.add_row(Text(name), _cell(text))
    _print(table)


def _print(table: Table) -> None:
    """Print a table; nothing is cut off when the output goes to a pipe. Rich itself honours NO_COLOR."""
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, soft_wrap=True)
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()), color=True)


def _cell(text: str) -> Text:
    return Text(text, style=_STYLES.get(text, ""))
