"""`trunkline cluster`: named groups of nodes."""

from __future__ import annotations

import click

from trunkline.cli.arguments import YES, confirm
from trunkline.cli.examples import examples
from trunkline.cli.init_scripts import cluster_init_scripts
from trunkline.cli.output import print_done, print_record, print_records
from trunkline.cli.session import Invocation, connected

COLUMNS = ("cluster", "cluster_id", "nodes", "creation_time")


@click.group()
def cluster() -> None:
    """Clusters: named groups of nodes of a workspace."""


cluster.add_command(cluster_init_scripts)


@cluster.command("create", epilog=examples("cluster create web vm-1 vm-2"))
@click.argument("name")
@click.argument("nodes", nargs=-1, metavar="[NODE]...")
@connected
def create(invocation: Invocation, name: str, nodes: tuple[str, ...]) -> None:
    """Create the cluster NAME, with nodes or empty."""
    print_record(invocation.call(lambda session: session.workspace.create_cluster(name, nodes)), invocation.output)


@cluster.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List all clusters."""
    records = invocation.collect(lambda session: session.workspace.list_clusters())
    print_records("clusters", records, COLUMNS, invocation.output)


@cluster.command("get")
@click.argument("name")
@connected
def get(invocation: Invocation, name: str) -> None:
    """Show one cluster by its name or id."""
    print_record(invocation.call(lambda session: session.workspace.get_cluster(name)), invocation.output)


@cluster.command("add")
@click.argument("name")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@connected
def add(invocation: Invocation, name: str, nodes: tuple[str, ...]) -> None:
    """Put nodes into a cluster."""
    print_record(invocation.call(lambda session: session.workspace.change_cluster(name, add=nodes)), invocation.output)


@cluster.command("remove")
@click.argument("name")
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@connected
def remove(invocation: Invocation, name: str, nodes: tuple[str, ...]) -> None:
    """Take nodes out of a cluster."""
    print_record(
        invocation.call(lambda session: session.workspace.change_cluster(name, remove=nodes)), invocation.output
    )


@cluster.command("delete")
@click.argument("name")
@YES
@connected
def delete(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete a cluster by its name or id; its nodes stay."""
    confirm("Delete the cluster? Its nodes stay.", yes=yes)
    invocation.call(lambda session: session.workspace.delete_cluster(name))
    print_done(f"deleted {name}", invocation.output)
