"""`trunkline run`: a command on one node, a cluster, a selection, or all nodes of a workspace."""

from __future__ import annotations

import click

from trunkline.cli.arguments import pairs_of
from trunkline.cli.examples import examples
from trunkline.cli.fleet_options import FleetChoice, fleet_options
from trunkline.cli.fleet_run import run_on_nodes
from trunkline.cli.local_input import read_beginning
from trunkline.cli.process_options import ProcessChoice, process_options
from trunkline.cli.session import Invocation, Session, connected_stream
from trunkline.client.commands import CommandRequest


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog=examples(
        "run --all -- uname -a",
        "run --cluster web --canary 1 --wave 25% -- systemctl restart app",
        "run --node vm-1 --timeout 60 -- sh -c 'df -h | tail -n +2'",
    ),
)
@fleet_options
@process_options
@click.option("--named", metavar="NAME", help="Run the command that the node's owner has given this name, not CMD.")
@click.option("--parameter", "-p", "parameters", multiple=True, metavar="K=V", help="A parameter of a named command.")
@click.option(
    "--stdin",
    "read_stdin",
    is_flag=True,
    help="Send our standard input to the command: of any size to one --node, at most 512 KiB to several.",
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD [ARG]...]")
@connected_stream
def run(
    invocation: Invocation,
    choice: FleetChoice,
    process: ProcessChoice,
    named: str | None,
    parameters: tuple[str, ...],
    read_stdin: bool,
    argv: tuple[str, ...],
) -> int:
    """Run CMD, or a command that its nodes' owners have named, stream its output, and exit with its status.

    With several nodes each line begins with the node's name, and the status is 0 only if all are, else the largest.
    124: timed out; 128+n: killed by signal n; 69: lost. Ctrl-C cancels the command on its nodes and exits with 130.
    """
    if bool(argv) == (named is not None) or (parameters and named is None):
        raise click.UsageError("give either -- CMD [ARG]..., or --named NAME with its --parameter K=V")
    given = read_beginning(to_its_end=not choice.attached_to_one) if read_stdin else None
    follows = given is not None and not given.ended
    request = CommandRequest(
        argv=argv,
        named=named,
        parameters=pairs_of(parameters, "--parameter"),
        stdin=given.beginning if given is not None and not follows else None,
        stdin_stream=follows,
        **process.fields(),
    )

    async def work(session: Session) -> int:
        return await run_on_nodes(session, choice, request, given if follows else None)

    return invocation.call(work)
