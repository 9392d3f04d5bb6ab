"""`trunkline revoke`: ending a credential, a node or a workspace before its time."""

from __future__ import annotations

import json
from typing import cast

import click

from trunkline.cli.session import Invocation, connected
from trunkline.client.workspaces import RevocationKind


@click.command("revoke")
@click.argument("kind", type=click.Choice(["token", "node", "certificate", "workspace"]))
@click.argument("identifier", metavar="ID")
@connected
def revoke(invocation: Invocation, kind: str, identifier: str) -> None:
    """Revoke a token (its jti), a node, a certificate (its serial number in hex) or a workspace.

    When the command returns, the revocation is on disk; relays and nodes cut what used it as soon as they learn.
    """
    sequence = invocation.call(
        lambda session: session.control_plane.account.revoke(cast(RevocationKind, kind), identifier)
    )
    if invocation.output == "json":
        click.echo(json.dumps({"sequence": sequence}))
    else:
        click.echo(f"revoked {kind} {identifier} (trust document {sequence})")
