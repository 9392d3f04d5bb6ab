"""`trunkline workspace quotas`: what a workspace, and each of its senders, may use of a relay."""

from __future__ import annotations

import click

from trunkline.cli.examples import examples
from trunkline.cli.output import print_record, say
from trunkline.cli.session import Invocation, Session, connected
from trunkline.client.records.workspaces import Quota, WorkspaceQuotas

_BOUND = click.IntRange(min=1)


@click.command(
    "quotas",
    epilog=examples(
        "workspace quotas main --calls-per-second 500 --sender-concurrent-calls 50", "workspace quotas main --none"
    ),
)
@click.argument("name")
@click.option("--calls-per-second", type=_BOUND, metavar="N", help="Calls that begin, of the whole workspace.")
@click.option("--concurrent-calls", type=_BOUND, metavar="N", help="Calls at once.")
@click.option("--bytes-per-second", type=_BOUND, metavar="N", help="Content, both directions together.")
@click.option("--sender-calls-per-second", type=_BOUND, metavar="N", help="Calls that begin, of each sender.")
@click.option("--sender-concurrent-calls", type=_BOUND, metavar="N", help="Calls at once of each sender.")
@click.option("--sender-bytes-per-second", type=_BOUND, metavar="N", help="Content of each sender.")
@click.option("--none", "lift", is_flag=True, help="Lift all quotas.")
@connected
def quotas(
    invocation: Invocation,
    name: str,
    calls_per_second: int | None,
    concurrent_calls: int | None,
    bytes_per_second: int | None,
    sender_calls_per_second: int | None,
    sender_concurrent_calls: int | None,
    sender_bytes_per_second: int | None,
    lift: bool,
) -> None:
    """Show the quotas of the workspace NAME at each relay, or put others in place of all of them.

    A call beyond them gets status 429 and Retry-After; calls under way go on.
    """
    stated = WorkspaceQuotas(
        workspace=Quota(
            calls_per_second=calls_per_second,
            concurrent_calls=concurrent_calls,
            bytes_per_second=bytes_per_second,
        ),
        sender=Quota(
            calls_per_second=sender_calls_per_second,
            concurrent_calls=sender_concurrent_calls,
            bytes_per_second=sender_bytes_per_second,
        ),
    )
    bounded = stated != WorkspaceQuotas()
    if lift and bounded:
        raise click.UsageError("give quotas, or --none")

    async def work(session: Session) -> WorkspaceQuotas:
        account = session.control_plane.account
        return await account.set_quotas(name, stated) if bounded or lift else await account.get_quotas(name)

    found = invocation.call(work)
    if found == WorkspaceQuotas() and invocation.output != "json":
        say("no quotas: what it and its senders use is not bounded")
        return
    print_record(found, invocation.output)
