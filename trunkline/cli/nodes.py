"""`trunkline node`: the enrolled machines of a workspace."""

from __future__ import annotations

import click

from trunkline.cli.arguments import YES, confirm, pairs_of
from trunkline.cli.examples import examples
from trunkline.cli.node_init import init, print_init
from trunkline.cli.output import print_done, print_record, print_records, print_tree
from trunkline.cli.session import Invocation, connected

COLUMNS = ("node", "state", "init_state", "node_id", "clusters", "labels", "agent_version", "last_seen_time")
HISTORY_COLUMNS = ("time", "state", "result", "rtt_milliseconds", "reason")


@click.group()
def node() -> None:
    """Nodes: the enrolled machines of a workspace."""


node.add_command(init)


@node.command("list", epilog=examples("node list --state-is offline", "node list --cluster web -l role=db -o json"))
@click.option(
    "--state-is", "node_state", metavar="STATE", help="Only nodes that are online, degraded, offline or pending."
)
@click.option("--cluster", metavar="NAME", help="Only nodes of this cluster.")
@click.option("--selector", "-l", "labels", multiple=True, metavar="K=V", help="Only nodes with this label.")
@connected
def list_(invocation: Invocation, node_state: str | None, cluster: str | None, labels: tuple[str, ...]) -> None:
    """List nodes."""
    wanted = pairs_of(labels, "--selector")
    records = invocation.collect(
        lambda session: session.workspace.list_nodes(state=node_state, cluster=cluster, labels=wanted)
    )
    print_records("nodes", records, COLUMNS, invocation.output)


@node.command("get")
@click.argument("name")
@connected
def get(invocation: Invocation, name: str) -> None:
    """Show one node by its name or id, and what became of its init scripts."""
    record = invocation.call(lambda session: session.workspace.get_node(name))
    if invocation.output == "json" or record.init is None or not record.init.scripts:
        print_record(record, invocation.output)
        return
    print_record(record.model_copy(update={"init": None}), invocation.output)
    print_init(record.init, invocation.output)


@node.command("health")
@click.argument("name")
@click.option("--history", is_flag=True, help="What the control plane's checks found, the newest first.")
@connected
def health(invocation: Invocation, name: str, history: bool) -> None:
    """Show a node's health, or what it was."""
    if history:
        records = invocation.collect(lambda session: session.workspace.list_node_health_history(name))
        print_records("history", records, HISTORY_COLUMNS, invocation.output)
        return
    print_record(invocation.call(lambda session: session.workspace.get_node_health(name)), invocation.output)


@node.command("policy")
@click.argument("name")
@connected
def policy(invocation: Invocation, name: str) -> None:
    """Show what a node's owner allows: commands, by name too, users, variables, times, ports. The node is asked."""
    print_tree(invocation.call(lambda session: session.workspace.get_node_policy(name)), invocation.output)


@node.command("delete")
@click.argument("name")
@YES
@connected
def delete(invocation: Invocation, name: str, yes: bool) -> None:
    """Delete a node by its name or id: its identity is revoked and its link cut."""
    confirm("Delete the node and cut it off?", yes=yes)
    invocation.call(lambda session: session.workspace.delete_node(name))
    print_done(f"deleted {name}", invocation.output)
