"""`trunkline audit`: who did what."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from trunkline.cli.examples import examples
from trunkline.cli.output import print_records
from trunkline.cli.session import Invocation, Session, connected
from trunkline.client.records.audit import AuditEvent

COLUMNS = ("time", "actor", "action", "outcome", "resource", "workspace_id", "source_address")
_MOMENT = click.DateTime(
    ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M:%SZ"]
)
"""A day, or a second as others write it, or as our tables do."""


@click.group()
def audit() -> None:
    """The audit: who did what."""


@audit.command("list", epilog=examples("audit list --action node.delete --since 2026-01-01"))
@click.option("--action", help="Only this action, e.g. node.delete.")
@click.option("--actor", help="Only what this actor did, e.g. operator/op-…")
@click.option("--outcome", help="Only this outcome.")
@click.option("--workspace-id", metavar="ID", help="Only events of this workspace.")
@click.option("--since", type=_MOMENT, metavar="TIME", help="Not before: YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS, UTC.")
@click.option("--until", type=_MOMENT, metavar="TIME", help="Not after.")
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many events."
)
@connected
def list_(
    invocation: Invocation,
    action: str | None,
    actor: str | None,
    outcome: str | None,
    workspace_id: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
) -> None:
    """List audit events, the newest first."""

    async def newest(session: Session) -> list[AuditEvent]:
        events: list[AuditEvent] = []
        listed = session.control_plane.account.list_audit_events(
            action=action,
            actor=actor,
            outcome=outcome,
            workspace_id=workspace_id,
            since_time=_milliseconds(since),
            until_time=_milliseconds(until),
        )
        async for event in listed:
            events.append(event)
            if len(events) == limit:
                break
        return events

    print_records("events", invocation.call(newest), COLUMNS, invocation.output)


def _milliseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp() * 1000)
