"""What is copied from where to where: `NODE:PATH` is on a node, anything else is here, and `-` is a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click

STANDARD = "-"


@dataclass(frozen=True, slots=True)
class CopyPlace:
    """A path of a node, or of this machine where `node` is None."""

    node: str | None
    path: str

    @property
    def is_standard(self) -> bool:
        """Whether it is our standard input or output."""
        return self.node is None and self.path == STANDARD


def place_of(text: str) -> CopyPlace:
    """A place as people write it; a path of this machine that has a colon is written with a slash before that.

    Raises:
        click.BadParameter: it is empty.
    """
    if not text:
        raise click.BadParameter("a path is empty")
    node, colon, path = text.partition(":")
    if colon and node and "/" not in node:
        return CopyPlace(node, path)
    return CopyPlace(None, text)


def check_ways(sources: Sequence[CopyPlace], target: CopyPlace, *, recursive: bool) -> None:
    """Let those pass that go from here to a node, or from nodes to here.

    Raises:
        click.UsageError: they do not.
    """
    if target.node is None and any(source.node is None for source in sources):
        raise click.UsageError("one side must be on a node: NODE:PATH")
    if target.node is not None and any(source.node is not None for source in sources):
        raise click.UsageError("one side must be on this machine; copy from node to node in two steps")
    pipes = [place for place in (*sources, target) if place.is_standard]
    if pipes and (len(sources) > 1 or recursive):
        raise click.UsageError("- is for one file alone")
