"""`trunkline relays`: the enrolled relays. `trunkline relay` is the daemon."""

from __future__ import annotations

import click

from trunkline.cli.arguments import YES, confirm
from trunkline.cli.output import print_done, print_records
from trunkline.cli.session import Invocation, connected

COLUMNS = ("name", "relay_id", "url", "dns_names", "trust_sequence", "creation_time", "last_seen_time")


@click.group()
def relays() -> None:
    """The enrolled relays; `trunkline token relay` admits another, `trunkline relay` runs one."""


@relays.command("list")
@connected
def list_(invocation: Invocation) -> None:
    """List all relays."""
    records = invocation.collect(lambda session: session.control_plane.account.list_relays())
    print_records("relays", records, COLUMNS, invocation.output)


@relays.command("delete")
@click.argument("relay", metavar="RELAY")
@YES
@connected
def delete(invocation: Invocation, relay: str, yes: bool) -> None:
    """Take a relay out of service, by its name or id: its identity is revoked, and nodes leave it."""
    confirm("Take the relay out of service?", yes=yes)
    invocation.call(lambda session: session.control_plane.account.delete_relay(relay))
    print_done(f"deleted {relay}", invocation.output)
