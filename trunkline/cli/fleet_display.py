"""The live display of a submission on a terminal: a bar, the wave, how many are where, and who is under way."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from trunkline.cli.exits import printable
from trunkline.client.records.commands import Command, CommandState
from trunkline.client.submissions import Standing

BAR_CHARACTERS = 30
MOST_NAMED = 6
_PARTS = (
    (CommandState.SUCCEEDED, "succeeded"),
    (CommandState.FAILED, "failed"),
    (CommandState.TIMED_OUT, "timed out"),
    (CommandState.LOST, "lost"),
    (CommandState.CANCELLED, "cancelled"),
    (CommandState.UNKNOWN, "not reached"),
)


class LiveDisplay:
    """Repaints a few lines at the bottom of the terminal that standard error is; other lines go above them."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(Text(""), console=self._console, refresh_per_second=4, transient=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[LiveDisplay]:
        """Show it inside the block."""
        with self._live:
            yield self

    def paint(self, standing: Standing) -> None:
        """Show how a submission stands."""
        self._live.update(Text("\n".join(display_lines(standing, time.time()))))

    def tell(self, line: str) -> None:
        """Write a line above."""
        self._console.out(f"trunkline: {line}", highlight=False)

    def destination(self) -> AboveDisplay:
        """Where outputs go that are to be seen on this terminal."""
        return AboveDisplay(self._console)


class AboveDisplay:
    """A terminal's bytes, printed above the live display at each flush; whoever writes makes them harmless first."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held = b""

    def isatty(self) -> bool:
        """It is one."""
        return True

    def write(self, content: bytes) -> None:
        """Take whole lines."""
        self._held += content

    def flush(self) -> None:
        """Print them."""
        if self._held:
            held, self._held = self._held, b""
            self._console.out(held.decode("utf-8", "replace").removesuffix("\n"), highlight=False)


def display_lines(standing: Standing, now: float) -> list[str]:
    """What the display shows; `now` is the wall clock."""
    submission = standing.submission
    ended = sum(command.state.final for command in standing.commands)
    share = ended / len(standing.commands) if standing.commands else 1.0
    full = round(share * BAR_CHARACTERS)
    lines = [f"{'█' * full}{'░' * (BAR_CHARACTERS - full)} {ended}/{len(standing.commands)}{_parts(standing)}"]
    rollout = submission.rollout
    if rollout is not None and len(rollout.waves) > 1:
        lines.append(f"wave {rollout.wave} of {len(rollout.waves)}{_pause(rollout.next_wave_time, now)}")
    under_way = [one for one in standing.commands if not (one.state.final or one.held)]
    if under_way:
        lines.append(f"under way: {_names(under_way)}")
    return [printable(line) for line in lines]


def _parts(standing: Standing) -> str:
    counts = standing.submission.counts
    parts = [f"{counts[state]} {said}" for state, said in _PARTS if counts.get(state)]
    held = sum(command.held for command in standing.commands)
    return "".join(f" · {part}" for part in [*parts, *([f"{held} held back"] if held else [])])


def _pause(next_wave_time: int | None, now: float) -> str:
    return "" if next_wave_time is None else f" · the next in {max(0.0, next_wave_time / 1000 - now):.0f} s"


def _names(commands: Sequence[Command]) -> str:
    names = [command.node or command.node_id for command in commands]
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")
