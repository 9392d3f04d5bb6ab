"""`trunkline command`: the commands that the control plane remembers."""

from __future__ import annotations

import asyncio
import sys

import click

from trunkline.cli.delivery_notes import DeliveryNotes
from trunkline.cli.output import print_record, print_records
from trunkline.cli.remote_output import output_to
from trunkline.cli.session import Invocation, Session, connected, connected_stream
from trunkline.client.command_output import OutputStream

COLUMNS = ("command_id", "node", "state", "exit_code", "command", "submit_time")


@click.group()
def command() -> None:
    """Commands that were run."""


@command.command("list")
@click.option("--node", metavar="NAME", help="Only commands of this node.")
@click.option("--state-is", "command_state", metavar="STATE", help="Only commands in this state, e.g. RUNNING.")
@connected
def list_(invocation: Invocation, node: str | None, command_state: str | None) -> None:
    """List commands, newest first."""
    records = invocation.collect(lambda session: session.workspace.commands.list(node=node, state=command_state))
    print_records("commands", records, COLUMNS, invocation.output)


@command.command("get")
@click.argument("command_id")
@connected
def get(invocation: Invocation, command_id: str) -> None:
    """Show one command."""
    print_record(invocation.call(lambda session: session.workspace.commands.get(command_id)), invocation.output)


@command.command("output")
@click.argument("command_id")
@click.option("--stream", type=click.Choice(["stdout", "stderr"]), default="stdout", show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0, help="The byte to begin with.")
@click.option("--tail", type=click.IntRange(min=0), metavar="BYTES", help="Only the last so many bytes.")
@click.option("--length", type=click.IntRange(min=0), metavar="BYTES", help="At most so many bytes.")
@click.option("--follow", is_flag=True, help="Go on until the command has ended.")
@connected_stream
def output(
    invocation: Invocation,
    command_id: str,
    stream: OutputStream,
    offset: int,
    tail: int | None,
    length: int | None,
    follow: bool,
) -> None:
    """Write a command's output to standard output: its bytes, or on a terminal with control characters shown."""
    if tail is not None and offset:
        raise click.UsageError("give --offset or --tail, not both")

    async def copy(session: Session) -> None:
        api = session.workspace.commands
        noting = asyncio.create_task(DeliveryNotes().watch(api, command_id)) if follow else None
        destination = output_to(sys.stdout.buffer)
        try:
            pieces = api.output(command_id, stream, offset=offset, tail_bytes=tail, length_bytes=length, follow=follow)
            async for piece in pieces:
                destination.write(piece)
            destination.close()
        finally:
            if noting is not None:
                noting.cancel()
                await asyncio.wait([noting])

    invocation.call(copy)


@command.command("cancel")
@click.argument("command_id")
@connected
def cancel(invocation: Invocation, command_id: str) -> None:
    """Ask for a command's end."""
    print_record(invocation.call(lambda session: session.workspace.commands.cancel(command_id)), invocation.output)
