"""The options of what runs on nodes: which nodes, how the commands are let go, and what is seen of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from trunkline.cli.arguments import pairs_of, seconds_of
from trunkline.client.commands import Target
from trunkline.client.rollouts import Rollout

R = TypeVar("R")

_OUTPUTS = ("text", "json", "jsonl")


class ShareType(click.ParamType[int | str]):
    """A number, or a percentage such as `25%`."""

    name = "N|N%"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or the text of the percentage."""
        text = str(value)
        if not re.fullmatch(r"[0-9]{1,6}%?", text, re.ASCII):
            self.fail(f"{text!r} is not a number of nodes, or a percentage such as 25%", param, ctx)
        return text if text.endswith("%") else int(text)


SHARE = ShareType()
OUTPUT = click.option(
    "--output", "-o", "shown", type=click.Choice(_OUTPUTS), default="text", show_default=True,
    help="What is written: outputs as text; one JSON document in the end; or JSON lines with all that happens.",
)  # fmt: skip
QUIET = click.option("--quiet", "-q", is_flag=True, help="Write only the outputs.")
_OPTIONS = (
    click.option("--node", metavar="NAME", help="Run on this node."),
    click.option("--cluster", metavar="NAME", help="Run on all nodes of this cluster."),
    click.option("--selector", "-l", "labels", multiple=True, metavar="K=V", help="Run on all nodes with this label."),
    click.option("--all", "everywhere", is_flag=True, help="Run on all nodes of the workspace."),
    click.option("--concurrency", type=SHARE, help="Run on at most so many nodes at once."),
    click.option("--canary", type=SHARE, help="Run on so many nodes first; if one of them fails, on no other."),
    click.option("--wave", "waves", type=SHARE, multiple=True,
                 help="The size of a wave; given again, of the next. The last one holds for all that follow."),
    click.option("--max-failures", type=SHARE,
                 help="Stop what was not sent when more fail. [default: 0 with waves, else any number]"),
    click.option("--pause", metavar="DURATION", help="Wait between waves, e.g. 90s or 5m."),
    click.option("--detach", "-d", is_flag=True, help="Print the submission's id, and do not wait for the end."),
    OUTPUT,
    QUIET,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FleetChoice:
    """Where and how to run, and what to show of it."""

    target: Target
    rollout: Rollout | None
    detach: bool
    output: str
    quiet: bool

    @property
    def attached_to_one(self) -> bool:
        """Whether it runs on one node, and we stay until its end."""
        return self.target.node is not None and not self.detach


def fleet_options(command: Callable[..., R]) -> Callable[..., R]:
    """Give a sub-command these options, and a `FleetChoice` as its argument `choice`."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> R:
        names = ("node", "cluster", "labels", "everywhere")
        target = _target(**{name: options.pop(name) for name in names})
        rolled = ("concurrency", "canary", "waves", "max_failures", "pause")
        rollout = _rollout(**{name: options.pop(name) for name in rolled})
        if rollout is not None and target.node is not None:
            raise click.UsageError("one node needs no waves: give --cluster, --selector or --all")
        seen = [options.pop(name) for name in ("detach", "shown", "quiet")]
        return command(*arguments, choice=FleetChoice(target, rollout, *seen), **options)

    for option in reversed(_OPTIONS):
        wrapped = option(wrapped)
    return wrapped


def _target(*, node: str | None, cluster: str | None, labels: tuple[str, ...], everywhere: bool) -> Target:
    selector = pairs_of(labels, "--selector")
    target = Target(node=node, cluster=cluster, selector=selector or None, everywhere=everywhere)
    try:
        target.document()
    except ValueError:
        raise click.UsageError("give exactly one of --node, --cluster, --selector and --all") from None
    return target


def _rollout(
    *,
    concurrency: int | str | None,
    canary: int | str | None,
    waves: tuple[int | str, ...],
    max_failures: int | str | None,
    pause: str | None,
) -> Rollout | None:
    pause_seconds = None if pause is None else float(seconds_of(pause, "--pause"))
    if pause_seconds is not None and canary is None and not waves:
        raise click.UsageError("--pause is between waves: give --canary or --wave too")
    rollout = Rollout(canary, waves, concurrency, max_failures, pause_seconds)
    return rollout if rollout.document() else None
