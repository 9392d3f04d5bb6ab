"""`trunkline run`: a command on one node, a cluster, a selection, or all nodes of a workspace."""

from __future__ import annotations

import os
import sys

import click

from trunkline.cli.arguments import pairs_of
from trunkline.cli.command_status import remark_on, status_of_commands
from trunkline.cli.delivery_notes import DeliveryNotes, tell
from trunkline.cli.exits import CommandFailed
from trunkline.cli.following import Interruption, follow_all, unless_insisted
from trunkline.cli.remote_output import outputs_for
from trunkline.cli.session import Invocation, Session, connected_stream
from trunkline.client.commands import CommandRequest, Target

LARGEST_STDIN_BYTES = 524_288


@click.command("run", context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False})
@click.option("--node", metavar="NAME", help="Run on this node.")
@click.option("--cluster", metavar="NAME", help="Run on all nodes of this cluster.")
@click.option("--selector", "-l", "labels", multiple=True, metavar="K=V", help="Run on all nodes with this label.")
@click.option("--all", "everywhere", is_flag=True, help="Run on all nodes of the workspace.")
@click.option("--timeout", "timeout_seconds", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="Kill the command after that time.")  # fmt: skip
@click.option("--env", "environment", multiple=True, metavar="K=V", help="A variable of the command's environment.")
@click.option("--secret-env", "secret_environment", multiple=True, metavar="NAME=SCOPE/KEY",
              help="Give a workspace secret as a variable.")  # fmt: skip
@click.option("--secret-file", "secret_files", multiple=True, metavar="NAME=SCOPE/KEY",
              help="Give a workspace secret as the file NAME in $TRUNKLINE_SECRETS_DIRECTORY.")  # fmt: skip
@click.option("--directory", metavar="DIR", help="The command's working directory on the node.")
@click.option("--named", metavar="NAME", help="Run the command that the node's owner has given this name, not CMD.")
@click.option("--parameter", "-p", "parameters", multiple=True, metavar="K=V", help="A parameter of a named command.")
@click.option("--user", metavar="NAME", help="The user on the node that it runs as, if the owner's policy allows it.")
@click.option("--stdin", "read_stdin", is_flag=True, help="Send our standard input, at most 512 KiB, to the command.")
@click.option("--id", "command_id", metavar="ID", help="The command's id; the same id runs only once.")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD [ARG]...]")
@connected_stream
def run(
    invocation: Invocation,
    node: str | None,
    cluster: str | None,
    labels: tuple[str, ...],
    everywhere: bool,
    timeout_seconds: float | None,
    environment: tuple[str, ...],
    secret_environment: tuple[str, ...],
    secret_files: tuple[str, ...],
    directory: str | None,
    named: str | None,
    parameters: tuple[str, ...],
    user: str | None,
    read_stdin: bool,
    command_id: str | None,
    argv: tuple[str, ...],
) -> int:
    """Run CMD, or a command that its nodes' owners have named, stream its output, and exit with its status.

    With several nodes each line begins with the node's name, and the status is 0 only if all are, else the largest.
    124: timed out; 128+n: killed by signal n; 69: lost. Ctrl-C cancels the command on its nodes and exits with 130.
    """
    if bool(argv) == (named is not None) or (parameters and named is None):
        raise click.UsageError("give either -- CMD [ARG]..., or --named NAME with its --parameter K=V")
    target = _target(node, cluster, pairs_of(labels, "--selector"), everywhere)
    request = CommandRequest(
        argv=argv,
        named=named,
        parameters=pairs_of(parameters, "--parameter"),
        environment=pairs_of(environment, "--env"),
        working_directory=directory,
        user=user,
        timeout_seconds=timeout_seconds,
        stdin=_read_stdin() if read_stdin else None,
        command_id=command_id,
        secret_environment=pairs_of(secret_environment, "--secret-env"),
        secret_files=pairs_of(secret_files, "--secret-file"),
    )

    async def work(session: Session) -> int:
        return await _run(session, target, request)

    return invocation.call(work)


async def _run(session: Session, target: Target, request: CommandRequest) -> int:
    api = session.workspace.commands
    interruption = Interruption()
    with interruption.watching():
        commands = await unless_insisted(api.submit(target, request), interruption)
        if commands is None:
            raise CommandFailed(
                "it is not known whether the command was submitted; see `trunkline command list`", interruption.status
            )
        if not commands:
            raise CommandFailed("no node matches; see `trunkline node list`", os.EX_DATAERR)
        outputs = outputs_for([command.node for command in commands], sys.stdout.buffer, sys.stderr.buffer)
        ended = await follow_all(api, commands, outputs, interruption, DeliveryNotes())
    if interruption.insisted.is_set() and not all(command.state.final for command in ended):
        tell("its end was asked for, and not waited for: the command may still run; see `trunkline command list`")
    for command in ended:
        remark = remark_on(command, several=len(ended) > 1)
        if remark is not None:
            tell(remark)
    return interruption.status if interruption.requested.is_set() else status_of_commands(ended)


def _target(node: str | None, cluster: str | None, selector: dict[str, str], everywhere: bool) -> Target:
    target = Target(node=node, cluster=cluster, selector=selector or None, everywhere=everywhere)
    try:
        target.document()
    except ValueError:
        raise click.UsageError("give exactly one of --node, --cluster, --selector and --all") from None
    return target


def _read_stdin() -> bytes:
    content = sys.stdin.buffer.read(LARGEST_STDIN_BYTES + 1)
    if len(content) > LARGEST_STDIN_BYTES:
        raise CommandFailed(f"standard input is larger than {LARGEST_STDIN_BYTES} bytes", os.EX_DATAERR)
    return content
