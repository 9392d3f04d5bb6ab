"""The group of all commands: it imports a command's module only when that runs, and knows whose reader has gone."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import click

from trunkline.cli.exits import ReaderGone
from trunkline.runtime.loading import loading


class LazyGroup(click.Group):
    """A click group whose sub-commands are named as ``module:attribute`` with their one-line help.

    The help texts are given here, so that ``--help`` and completion import nothing either.
    """

    def __init__(self, *arguments: Any, lazy: dict[str, tuple[str, str]] | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all sub-commands, in the order given."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a sub-command, or None."""
        if cmd_name not in self._lazy:
            return None
        module_name, _, attribute = self._lazy[cmd_name][0].partition(":")
        command = getattr(_module(module_name), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module_name}:{attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the sub-command that the first argument names; of one that is none, say which are like it.

        click looks for such among the commands that it holds itself, which are none here.
        """
        name = args[0]
        if name not in self._lazy and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            alike = [f"'{known}'" for known in get_close_matches(name, self._lazy)]
            hint = f". Did you mean {' or '.join(alike)}?" if alike else ""
            raise click.UsageError(f"No such command {name!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments; this is where ``--help`` and ``--version`` print."""
        with _telling_of_its_reader():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the sub-command."""
        with _telling_of_its_reader():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of sub-commands from their one-line helps."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, short_help) for name, (_, short_help) in self._lazy.items()])


def _module(name: str) -> ModuleType:
    """The module of that name; whatever has been loaded has been so with the collector in mind."""
    loaded = sys.modules.get(name)
    if loaded is not None:
        return loaded
    with loading():
        return importlib.import_module(name)


@contextlib.contextmanager
def _telling_of_its_reader() -> Iterator[None]:
    """Raise `ReaderGone` for a broken pipe, which click itself would make an exit with status 1."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None
