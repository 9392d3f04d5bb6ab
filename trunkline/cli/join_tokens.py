"""`trunkline join-token`: the join tokens that exist. `trunkline token join` makes one."""

from __future__ import annotations

import click

from trunkline.cli.arguments import YES, confirm
from trunkline.cli.output import print_done, print_records
from trunkline.cli.session import Invocation, connected

COLUMNS = ("join_token_id", "node_name", "used", "uses", "cluster_id", "labels", "creation_time", "expire_time")


@click.group()
def join_token() -> None:
    """The join tokens that exist; `trunkline token join` makes one."""


@join_token.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List the join tokens of the workspace, without the tokens themselves."""
    records = invocation.collect(lambda session: session.workspace.list_join_tokens())
    print_records("join_tokens", records, COLUMNS, invocation.output)


@join_token.command("delete")
@click.argument("join_token_id", metavar="ID")
@YES
@connected
def delete(invocation: Invocation, join_token_id: str, yes: bool) -> None:
    """Make a join token useless by its id; nodes that joined with it stay."""
    confirm("Delete the join token?", yes=yes)
    invocation.call(lambda session: session.workspace.delete_join_token(join_token_id))
    print_done(f"deleted {join_token_id}", invocation.output)
