"""`trunkline revocation`: what was revoked, and who has taken it. `trunkline revoke` revokes."""

from __future__ import annotations

import click

from trunkline.cli.output import print_record, print_records
from trunkline.cli.session import Invocation, Session, connected
from trunkline.cli.targets import KINDS, id_of
from trunkline.client.endings import EndingKind
from trunkline.client.records.endings import Revocation

COLUMNS = ("kind", "id", "sequence", "creation_time", "expire_time", "revoked_by")


@click.group()
def revocation() -> None:
    """Revocations that are in force; `trunkline revoke` makes others."""


@revocation.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only those of this kind.")
@connected
def list_(invocation: Invocation, kind: EndingKind | None) -> None:
    """List revocations in the order in which they were made."""
    records = invocation.collect(lambda session: session.control_plane.endings.list_revocations(kind=kind))
    print_records("revocations", records, COLUMNS, invocation.output)


@revocation.command("get")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("identifier", metavar="ID")
@connected
def get(invocation: Invocation, kind: str, identifier: str) -> None:
    """Show one revocation, and which relays and nodes have taken it."""

    async def work(session: Session) -> Revocation:
        return await session.control_plane.endings.get_revocation(*await id_of(session, kind, identifier))

    print_record(invocation.call(work), invocation.output)
