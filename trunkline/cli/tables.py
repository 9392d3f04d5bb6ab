"""Tables for people: apart, since loading what draws them takes longer than most commands that print none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import click
from rich.console import Console
from rich.segment import Segment, Segments
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
_WIDTH = 10_000
"""Wider than any line. A list is never fitted to a terminal, which wraps lines that are too long for it: to make room
for one column others would be cut, and of a node's name one letter would be left."""
_LEAST_WIDTH = 60


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a list, each of its rows in one line."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ignore")
    for row in rows:
        table.add_row(*map(_cell, row))
    _print(table, _WIDTH)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Print names and what they have, a line each; what is long goes on in the next line."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in fields:
        table.add_row(Text(name), _cell(text))
    _print(table, max(Console().width, _LEAST_WIDTH) if sys.stdout.isatty() else _WIDTH)


def whole(table: Table, console: Console, width: int = _WIDTH) -> Segments:
    """A table as wide as it is, or as it may be, to be printed with `soft_wrap`; no line has spaces at its end."""
    segments: list[Segment] = []
    for line in console.render_lines(table, console.options.update(width=width), pad=False):
        while line and not line[-1].text.strip():
            line.pop()
        if line:
            last = line.pop()
            line.append(Segment(last.text.rstrip(), last.style))
        segments += [*line, Segment.line()]
    return Segments(segments)


def _print(table: Table, width: int) -> None:
    """Print a table. Rich itself honours NO_COLOR."""
    console = Console(highlight=False)
    with console.capture() as captured:
        console.print(whole(table, console, width), soft_wrap=True, end="")
    click.echo(captured.get(), nl=False, color=True)


def _cell(text: str) -> Text:
    return Text(text, style=_STYLES.get(text, ""))
