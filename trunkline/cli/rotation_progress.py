"""The view of a rotation that goes by itself: a live display on a terminal, a line for each change otherwise."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Protocol

import click

from trunkline.cli.exits import printable
from trunkline.cli.output import say
from trunkline.cli.rotation_status import laggard_lines, rotation_lines, verdict_line
from trunkline.client.records.rotations import Rotation

_ONWARDS = {"steady": "prepare", "prepared": "activate", "activated": "retire"}
BAR_CHARACTERS = 30


class ProgressView(Protocol):
    """Is shown what a rotation looks like, again and again."""

    def show(self, rotation: Rotation) -> None:
        """Take note of how it stands now."""
        ...


class LineView:
    """Writes a line when something has changed; for logs and pipes."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, rotation: Rotation) -> None:
        """Write how it stands, if that is news."""
        line = summary(rotation)
        if line != self._last:
            self._last = line
            say(line)


class JsonView:
    """Writes one JSON object a line when something has changed."""

    def __init__(self) -> None:
        self._last = ""

    def show(self, rotation: Rotation) -> None:
        """Write the API's own object, if it is news."""
        line = json.dumps(rotation.model_dump(mode="json", exclude_none=True))
        if line != self._last:
            self._last = line
            click.echo(line)


def summary(rotation: Rotation) -> str:
    """One line: phase, and what is waited for."""
    verdict = rotation.next(_ONWARDS.get(rotation.phase, ""))
    waits = "" if rotation.phase == "steady" or verdict is None else f"; next: {verdict_line(verdict, rotation.live)}"
    return f"{rotation.kind}: {rotation.phase}{waits}"


@contextlib.contextmanager
def progress_view(output: str) -> Iterator[ProgressView]:
    """The view that fits where the output goes."""
    if output == "json":
        yield JsonView()
    elif sys.stdout.isatty():
        with _live_view() as view:
            yield view
    else:
        yield LineView()


@contextlib.contextmanager
def _live_view() -> Iterator[ProgressView]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    class LiveView:
        """Repaints a small display: phase, signers, a bar of adoption, the first laggards."""

        def show(self, rotation: Rotation) -> None:
            live.update(Text("\n".join(map(printable, display_lines(rotation)))))

    with Live(Text(""), console=Console(highlight=False), refresh_per_second=4) as live:
        yield LiveView()


def display_lines(rotation: Rotation) -> list[str]:
    """What the live display shows."""
    verdict = rotation.next(_ONWARDS.get(rotation.phase, ""))
    lines = [line for line in rotation_lines(rotation) if not line.startswith(("  next", "    "))]
    if verdict is None or rotation.phase == "steady":
        return lines
    followed = min(1.0, verdict.adopted / rotation.live) if rotation.live else 1.0
    full = round(followed * BAR_CHARACTERS)
    bar = "█" * full + "░" * (BAR_CHARACTERS - full)
    return [*lines, f"  {bar} {verdict_line(verdict, rotation.live)}", *(f"  {one}" for one in laggard_lines(verdict))]
