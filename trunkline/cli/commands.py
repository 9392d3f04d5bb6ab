"""`trunkline command`: the commands that the control plane remembers."""

from __future__ import annotations

import os
from http import HTTPStatus

import click

from trunkline.cli.examples import examples
from trunkline.cli.fleet_options import OUTPUT, QUIET
from trunkline.cli.output import print_line, print_record, print_records
from trunkline.cli.session import Invocation, Session, connected, connected_stream
from trunkline.client.command_output import OutputStream
from trunkline.client.errors import ApiError
from trunkline.client.records.record import Record

EVENT_COLUMNS = ("time", "event", "details")
COLUMNS = ("command_id", "node", "state", "exit_code", "command", "submit_time")


@click.group()
def command() -> None:
    """Commands that were run."""


@command.command("list", epilog=examples("command list --node vm-1 --state-is RUNNING"))
@click.option("--node", metavar="NAME", help="Only commands of this node.")
@click.option("--state-is", "command_state", metavar="STATE", help="Only commands in this state, e.g. RUNNING.")
@connected
def list_(invocation: Invocation, node: str | None, command_state: str | None) -> None:
    """List commands, newest first."""
    records = invocation.collect(lambda session: session.commands.list(node=node, state=command_state))
    print_records("commands", records, COLUMNS, invocation.output)


@command.command("get")
@click.argument("command_id")
@connected
def get(invocation: Invocation, command_id: str) -> None:
    """Show one command."""
    print_record(invocation.call(lambda session: session.commands.get(command_id)), invocation.output)


@command.command(
    "output", epilog=examples("command output ID --follow", "command output ID --stream stderr --tail 4096")
)
@click.argument("command_id")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default="stdout", show_default=True)
@click.option("--offset", metavar="BYTES", type=click.IntRange(min=0), default=0, help="The byte to begin with.")
@click.option("--tail", type=click.IntRange(min=0), metavar="BYTES", help="Only the last so many bytes.")
@click.option("--length", type=click.IntRange(min=0), metavar="BYTES", help="At most so many bytes.")
@click.option("--kept", is_flag=True, help="Take what the control plane kept, if the node does not answer.")
@click.option("--follow", is_flag=True, help="Go on until the command has ended.")
@click.option("--timestamps", is_flag=True, help="Begin each line with the time at which it was written.")
@connected_stream
def output(
    invocation: Invocation,
    command_id: str,
    stream: OutputStream,
    offset: int,
    tail: int | None,
    length: int | None,
    kept: bool,
    follow: bool,
    timestamps: bool,
) -> int:
    """Write a command's output to standard output: its bytes, or on a terminal with control characters shown.

    Where bytes are missing that were not kept, standard error says so, and the exit status is 69.
    """
    if tail is not None and offset:
        raise click.UsageError("give --offset or --tail, not both")
    if tail is not None and timestamps:
        raise click.UsageError("give --timestamps with --offset, not with --tail")
    from trunkline.cli.command_copy import Part, copy_part

    part = Part(command_id, stream, offset, tail, length, kept, follow, timestamps)
    return 0 if invocation.call(lambda session: copy_part(session, part)) else os.EX_UNAVAILABLE


@command.command("events")
@click.argument("command_id")
@click.option("--follow", is_flag=True, help="Go on until the command has ended.")
@connected
def events(invocation: Invocation, command_id: str, follow: bool) -> None:
    """Show what has happened to a command; with -o json, one line of JSON for each event that is followed."""
    if not follow:
        records = invocation.collect(lambda session: session.commands.events(command_id))
        print_records("events", records, EVENT_COLUMNS, invocation.output)
        return

    async def show(session: Session) -> None:
        async for event in session.commands.follow_events(command_id):
            print_line(event, EVENT_COLUMNS, invocation.output)

    invocation.call(show)


@command.command("attach")
@click.argument("submission_or_command_id")
@click.option("--from-now", is_flag=True, help="Leave out what was written before.")
@OUTPUT
@QUIET
@connected_stream
def attach(invocation: Invocation, submission_or_command_id: str, from_now: bool, shown: str, quiet: bool) -> int:
    """Follow what was submitted before, from its beginning, and exit with its status.

    Ctrl-C ends the following only: `trunkline command cancel` ends the command.
    """
    from trunkline.cli import fleet_run  # which takes its time, and nothing else here needs it

    async def work(session: Session) -> int:
        return await fleet_run.attach(session, submission_or_command_id, shown, from_now=from_now, quiet=quiet)

    return invocation.call(work)


@command.command("cancel")
@click.argument("command_or_submission_id")
@connected
def cancel(invocation: Invocation, command_or_submission_id: str) -> None:
    """Ask for the end of a command, or of all the commands of a submission."""

    async def work(session: Session) -> Record:
        try:
            return await session.commands.cancel(command_or_submission_id)
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
        return await session.submissions.cancel(command_or_submission_id)

    print_record(invocation.call(work), invocation.output)
