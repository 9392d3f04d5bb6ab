"""`trunkline revoke`: ending a credential, a node or a workspace before its time."""

from __future__ import annotations

import click

from trunkline.cli.adoption import TIMEOUT, WAIT, fail_if_incomplete, print_adoption, wait_for_adoption
from trunkline.cli.examples import examples
from trunkline.cli.output import print_record, say
from trunkline.cli.session import Invocation, Session, connected
from trunkline.cli.targets import KINDS, id_of
from trunkline.client.records.endings import Adoption, Revocation


@click.command("revoke", epilog=examples("revoke node vm-1", "revoke token 1b14fb0783b4aedb4d66aca573a44f18"))
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("identifier", metavar="ID")
@WAIT
@TIMEOUT
@connected
def revoke(invocation: Invocation, kind: str, identifier: str, wait: bool, timeout_seconds: float) -> None:
    """Revoke a token (its jti), a node, a certificate (its serial number in hex) or a workspace, for good.

    The revocation is on disk before anything is waited for. Relays and nodes cut what used it, and report how much.
    Exit status 75: not all of them have, in time.
    """

    async def work(session: Session) -> Revocation:
        target = await id_of(session, kind, identifier)
        endings = session.control_plane.endings
        sequence = await endings.revoke(*target)
        if invocation.output == "table":
            say(f"revoked {target[0]} {target[1]} (trust document {sequence})")
        if not wait:
            return Revocation(kind=target[0], id=target[1], sequence=sequence)

        async def ask() -> Adoption | None:
            return (await endings.get_revocation(*target)).adoption

        adoption = await wait_for_adoption(ask, timeout_seconds)
        return Revocation(kind=target[0], id=target[1], sequence=sequence, adoption=adoption)

    revocation = invocation.call(work)
    if invocation.output == "json":
        print_record(revocation, "json")
    if revocation.adoption is not None:
        if invocation.output == "table":
            print_adoption(revocation.adoption)
        fail_if_incomplete(revocation.adoption)
