"""The daemons, started by the names of their entry points, so that the command line imports none of them."""

from __future__ import annotations

import os
from importlib.metadata import entry_points

import click

from trunkline.cli.exits import CommandFailed
from trunkline.runtime.loading import loading

ENTRY_POINT_GROUP = "trunkline.daemons"
_SETTINGS = {"ignore_unknown_options": True, "allow_interspersed_args": False, "help_option_names": []}
_ARGUMENTS = click.argument("arguments", nargs=-1, type=click.UNPROCESSED)


@click.command("relay", context_settings=_SETTINGS)
@_ARGUMENTS
def relay(arguments: tuple[str, ...]) -> int:
    """Run the relay daemon; its own --help says more."""
    if arguments[:1] in (("list",), ("delete",)):
        raise click.UsageError(f"this runs the daemon; `trunkline relays {arguments[0]}` is for the enrolled ones")
    return run_daemon("relay", arguments)


@click.command("node-agent", context_settings=_SETTINGS)
@_ARGUMENTS
def node_agent(arguments: tuple[str, ...]) -> int:
    """Run the node agent daemon; its own --help says more."""
    return run_daemon("node-agent", arguments)


@click.command("control-plane", context_settings=_SETTINGS)
@_ARGUMENTS
def control_plane(arguments: tuple[str, ...]) -> int:
    """Run the control plane daemon, or `control-plane init`; its own --help says more."""
    return run_daemon("control-plane", arguments)


def run_daemon(name: str, arguments: tuple[str, ...]) -> int:
    """Run a daemon in this process until it ends, and return its exit status.

    Raises:
        CommandFailed: it is not installed, or a package that it needs is not.
    """
    found = next(iter(entry_points(group=ENTRY_POINT_GROUP, name=name)), None)
    extra = "agent" if name == "node-agent" else name
    install = f"pip install 'trunkline[{extra}]'"
    if found is None:
        raise CommandFailed(f"the {name} daemon is not installed: {install}", os.EX_UNAVAILABLE)
    try:
        with loading():
            main = found.load()
    except ModuleNotFoundError as error:
        raise CommandFailed(f"the {name} daemon needs the package {error.name}: {install}", os.EX_UNAVAILABLE) from None
    try:
        return int(main(list(arguments)) or 0)
    except SystemExit as ending:  # argparse ends --help, --version and wrong usage so
        return ending.code if isinstance(ending.code, int) else os.EX_USAGE
