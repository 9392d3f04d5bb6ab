"""Completion scripts for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    For example, in ~/.bashrc: eval "$(trunkline completion bash)".
    """
    script_class = get_completion_class(shell)
    if script_class is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root()
    click.echo(script_class(root.command, {}, "trunkline", "_TRUNKLINE_COMPLETE").source())
