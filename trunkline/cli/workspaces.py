"""`trunkline workspace`: the tenants of the account."""

from __future__ import annotations

import click

from trunkline.cli.arguments import YES, confirm
from trunkline.cli.output import print_done, print_record, print_records
from trunkline.cli.quotas import quotas
from trunkline.cli.session import Invocation, connected

COLUMNS = ("workspace", "workspace_id", "creation_time")


@click.group()
def workspace() -> None:
    """Workspaces: the tenants of the account."""


@workspace.command("create")
@click.argument("name")
@connected
def create(invocation: Invocation, name: str) -> None:
    """Create the workspace NAME, a DNS label."""
    print_record(
        invocation.call(lambda session: session.control_plane.account.create_workspace(name)), invocation.output
    )


@workspace.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List all workspaces."""
    records = invocation.collect(lambda session: session.control_plane.account.list_workspaces())
    print_records("workspaces", records, COLUMNS, invocation.output)


@workspace.command("get")
@click.argument("name")
@connected
def get(invocation: Invocation, name: str) -> None:
    """Show one workspace by its name or id."""
    print_record(invocation.call(lambda session: session.control_plane.account.get_workspace(name)), invocation.output)


@workspace.command("delete")
@click.argument("name")
@YES
@connected
def delete(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete a workspace by its name or id."""
    confirm("Delete the workspace with all its nodes?", yes=yes)
    invocation.call(lambda session: session.control_plane.account.delete_workspace(name))
    print_done(f"deleted {name}", invocation.output)


workspace.add_command(quotas)
