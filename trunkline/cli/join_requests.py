"""`trunkline join-request`: known machines that wait for an operator to let them in again."""

from __future__ import annotations

import click

from trunkline.cli.output import print_record, print_records
from trunkline.cli.session import Invocation, connected

COLUMNS = ("join_request_id", "state", "node_id", "machine_id", "source_address", "last_time")


@click.group("join-request")
def join_request() -> None:
    """Join requests: known machines that wait for an operator."""


@join_request.command("list")
@click.option("--only", "wanted", type=click.Choice(["pending", "approved", "denied"]), help="Only those.")
@connected
def list_(invocation: Invocation, wanted: str | None) -> None:
    """List the requests of the workspace."""
    records = invocation.collect(lambda session: session.workspace.join_policies.list_requests(state=wanted))
    print_records("join_requests", records, COLUMNS, invocation.output)


@join_request.command("approve")
@click.argument("join_request_id", metavar="ID")
@connected
def approve(invocation: Invocation, join_request_id: str) -> None:
    """Let the machine in, once, with the key that it has shown; it asks again by itself."""
    record = invocation.call(lambda session: session.workspace.join_policies.approve(join_request_id))
    print_record(record, invocation.output)


@join_request.command("deny")
@click.argument("join_request_id", metavar="ID")
@connected
def deny(invocation: Invocation, join_request_id: str) -> None:
    """Refuse the machine's request."""
    record = invocation.call(lambda session: session.workspace.join_policies.deny(join_request_id))
    print_record(record, invocation.output)
