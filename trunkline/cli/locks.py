"""`trunkline lock`: keeping a node, a workspace, a token or a certificate from use for a while."""

from __future__ import annotations

import click

from trunkline.cli.adoption import TIMEOUT, WAIT, fail_if_incomplete, print_adoption, wait_for_adoption
from trunkline.cli.arguments import seconds_of
from trunkline.cli.output import moment, print_record, print_records, say
from trunkline.cli.session import Invocation, Session, connected
from trunkline.cli.targets import KINDS, id_of
from trunkline.client.endings import EndingKind
from trunkline.client.records.endings import Adoption, Lock

COLUMNS = ("lock_id", "kind", "id", "state", "expire_time", "reason", "locked_by")
_WHAT = {
    "token": "Lock the token with the jti ID.",
    "node": "Lock the node with the name or id ID.",
    "certificate": "Lock the certificate with the serial number ID, in hex.",
    "workspace": "Lock the workspace with the name or id ID.",
}


@click.group()
def lock() -> None:
    """Locks: as revocations, but for a while, with a reason, and liftable.

    Calls to what is locked are refused, and those that are open are cut. A lock ends by itself, by the clocks of relays
    and nodes, whether or not they hear from the control plane.
    """


@lock.command("list")
@click.option("--kind", type=click.Choice(KINDS), help="Only those of this kind.")
@click.option("--all", "ended", is_flag=True, help="Also those that were lifted or have expired.")
@connected
def list_(invocation: Invocation, kind: EndingKind | None, ended: bool) -> None:
    """List locks."""
    records = invocation.collect(lambda session: session.control_plane.endings.list_locks(kind=kind, ended=ended))
    print_records("locks", records, COLUMNS, invocation.output)


@lock.command("get")
@click.argument("lock_id", metavar="LOCK")
@connected
def get(invocation: Invocation, lock_id: str) -> None:
    """Show one lock, and who has taken it."""
    print_record(invocation.call(lambda session: session.control_plane.endings.get_lock(lock_id)), invocation.output)


@lock.command("lift")
@click.argument("lock_id", metavar="LOCK")
@connected
def lift(invocation: Invocation, lock_id: str) -> None:
    """End a lock before its time; what it locked is of use again within moments."""
    record = invocation.call(lambda session: session.control_plane.endings.lift_lock(lock_id))
    if invocation.output == "json":
        print_record(record, "json")
    else:
        number = f" (trust document {record.lift_sequence})" if record.lift_sequence else ""
        say(f"{record.state.lower()}: {record.kind} {record.id}{number}")


def _locking(kind: str) -> click.Command:
    """The sub-command that locks things of this kind."""

    def make(
        invocation: Invocation, identifier: str, duration: str, reason: str, wait: bool, timeout_seconds: float
    ) -> None:
        lifetime_seconds = seconds_of(duration, "--for")

        async def work(session: Session) -> Lock:
            target = await id_of(session, kind, identifier)
            endings = session.control_plane.endings
            made = await endings.lock(*target, lifetime_seconds=lifetime_seconds, reason=reason)
            if invocation.output == "table":
                say(f"{made.lock_id} locks {kind} {target[1]} until {moment(made.expire_time)}")
            if not wait:
                return made

            async def ask() -> Adoption | None:
                return (await endings.get_lock(made.lock_id)).adoption

            return made.model_copy(update={"adoption": await wait_for_adoption(ask, timeout_seconds)})

        _print(invocation.call(work), invocation.output)

    make.__doc__ = f"{_WHAT[kind]}\n\n    Exit status 75: not all relays and nodes have reported it in time."
    command = WAIT(TIMEOUT(connected(make)))
    command = click.option("--reason", required=True, metavar="TEXT", help="Why; for the list and the audit.")(command)
    command = click.option("--for", "duration", required=True, metavar="DURATION", help="E.g. 30m, 2h, 7d.")(command)
    return click.command(kind)(click.argument("identifier", metavar="ID")(command))


def _print(made: Lock, output: str) -> None:
    if output == "json":
        print_record(made, "json")
    if made.adoption is not None:
        if output == "table":
            print_adoption(made.adoption)
        fail_if_incomplete(made.adoption)


for _kind in KINDS:
    lock.add_command(_locking(_kind))
