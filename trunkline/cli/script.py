"""`trunkline script`: a script of this machine, run on nodes."""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import BinaryIO

import click

from trunkline.cli.examples import examples
from trunkline.cli.exits import CommandFailed
from trunkline.cli.fleet_options import FleetChoice, fleet_options
from trunkline.cli.fleet_run import run_on_nodes
from trunkline.cli.local_input import read_beginning
from trunkline.cli.process_options import ProcessChoice, process_options
from trunkline.cli.session import Invocation, Session, connected_stream
from trunkline.client.scripts import LARGEST_SCRIPT_BYTES, script_request


@click.command(
    "script",
    context_settings={"allow_interspersed_args": False},
    epilog=examples("script --cluster web setup.sh", "script --node vm-1 setup.sh -- --verbose"),
)
@fleet_options
@process_options
@click.option(
    "--stdin",
    "read_stdin",
    is_flag=True,
    help="Send our standard input to the script: of any size to one --node, at most 512 KiB to several.",
)
@click.argument("file", type=click.File("rb"), metavar="FILE")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[[--] ARG...]")
@connected_stream
def script(
    invocation: Invocation,
    choice: FleetChoice,
    process: ProcessChoice,
    read_stdin: bool,
    file: BinaryIO,
    arguments: tuple[str, ...],
) -> int:
    """Run the script FILE on nodes, by its shebang or by sh, and exit with its status; `-` is our standard input.

    The nodes get its text, at most 512 KiB, and keep no file of it. Everything else is as with `trunkline run`.
    """
    if read_stdin and file.name == "<stdin>":
        raise click.UsageError("standard input is the script already: give a FILE, or leave out --stdin")
    words = arguments[1:] if arguments[:1] == ("--",) else arguments
    content = file.read(LARGEST_SCRIPT_BYTES + 1)
    given = read_beginning(to_its_end=not choice.attached_to_one) if read_stdin else None
    follows = given is not None and not given.ended
    try:
        request = script_request(
            content,
            PurePath(file.name).name,
            words,
            stdin=given.beginning if given is not None and not follows else None,
            stdin_stream=follows,
            **process.fields(),
        )
    except ValueError as error:
        raise CommandFailed(str(error), os.EX_DATAERR) from None

    async def work(session: Session) -> int:
        return await run_on_nodes(session, choice, request, given.behind(content) if given and follows else None)

    return invocation.call(work)
