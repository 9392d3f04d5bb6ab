"""`trunkline ca` and `trunkline signing-key`: rotations, step by step or all by themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import click

from trunkline.cli.exits import CommandFailed, printable
from trunkline.cli.key_ids import TakesKeyId
from trunkline.cli.rotation_progress import ProgressView, progress_view
from trunkline.cli.rotation_status import print_rotation
from trunkline.cli.session import Invocation, Session, connected
from trunkline.client.errors import ApiError
from trunkline.client.records.rotations import Rotation
from trunkline.client.rotations import RotationKind, RotationStep

_STEPS: dict[RotationStep, str] = {
    "prepare": "Make a new signer, and have everybody trust it; nothing is signed with it yet.",
    "activate": "Sign with the new signer; the old one stays trusted, and machines renew what stands on it.",
    "retire": "Trust the signer no more that nothing signs with; after that there is no way back.",
    "rollback": "Sign with the old signer again, or withdraw the new one where it has not signed yet.",
}


@click.group()
def ca() -> None:
    """The certificate authority: its rotation, prepare, activate, retire, with rollback until retire."""


@click.group("signing-key")
def signing_key() -> None:
    """The key that signs tokens: its rotation, prepare, activate, retire, and its revocation."""


def _add_commands(group: click.Group, kind: RotationKind) -> None:
    group.add_command(_status_command(kind))
    for step, words in _STEPS.items():
        group.add_command(_step_command(kind, step, words))
    group.add_command(_rotate_command(kind))


def _status_command(kind: RotationKind) -> click.Command:
    @click.command("status")
    @connected
    def status(invocation: Invocation) -> None:
        """Show the phase, the signers, and who stands before the next step."""
        rotation = invocation.call(lambda session: session.control_plane.account.rotation(kind).get())
        print_rotation(rotation, invocation.output)

    return status


def _step_command(kind: RotationKind, step: RotationStep, words: str) -> click.Command:
    @click.command(step, help=words)
    @click.option("--force", is_flag=True, help="Take the step though not everybody has followed; needs --reason.")
    @click.option("--reason", default="", metavar="TEXT", help="Why; it is kept in the audit.")
    @connected
    def take(invocation: Invocation, force: bool, reason: str) -> None:
        if force and not reason.strip():
            raise click.UsageError("--force needs --reason: say why nobody is waited for")

        async def work(session: Session) -> Rotation:
            return await session.control_plane.account.rotation(kind).take(step, force=force, reason=reason)

        print_rotation(_naming_laggards(lambda: invocation.call(work)), invocation.output)

    return take


def _rotate_command(kind: RotationKind) -> click.Command:
    @click.command("rotate")
    @click.option("--auto", is_flag=True, help="Take every step as soon as everybody has followed.")
    @connected
    def rotate(invocation: Invocation, auto: bool) -> None:
        """Go all the way to a new signer, and show who has followed.

        Ctrl-C leaves the rotation where it is; the same command goes on with it.
        """
        if not auto:
            raise click.UsageError("say --auto, or take the steps yourself: prepare, activate, retire")
        with progress_view(invocation.output) as view:
            _naming_laggards(lambda: invocation.call(lambda session: _rotate(session, kind, view)))

    return rotate


async def _rotate(session: Session, kind: RotationKind, view: ProgressView) -> Rotation:
    rotation: Rotation | None = None
    async for rotation in session.control_plane.account.rotation(kind).rotate():
        view.show(rotation)
    if rotation is None:
        raise CommandFailed("the control plane said nothing about the rotation", os.EX_PROTOCOL)
    return rotation


@signing_key.command("revoke", cls=TakesKeyId)
@click.argument("key_id", metavar="KID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept in the audit.")
@connected
def revoke(invocation: Invocation, key_id: str, reason: str) -> None:
    """End the signing key KID at once, because it is known to others.

    Everything that stands on it is cut: calls, streams and links. Another key signs from now on, and nodes come back
    by their certificates within seconds. Tokens that were given out under the key have to be made again.
    """
    rotation = invocation.call(lambda session: session.control_plane.account.revoke_signing_key(key_id, reason))
    print_rotation(rotation, invocation.output)


def _naming_laggards(take: Callable[[], Rotation]) -> Rotation:
    """Take a step; where its gate is shut, say who keeps it shut, a line each."""
    try:
        return take()
    except ApiError as error:
        lines = [f"  {_laggard(detail)}" for detail in error.details if "problem" in detail]
        if error.status != 409 or not lines:
            raise
        raise CommandFailed("\n".join([printable(str(error)), *lines]), os.EX_TEMPFAIL) from None


def _laggard(detail: Mapping[str, object]) -> str:
    return printable(f"{detail.get('kind', '')} {detail.get('field', '')}: {detail['problem']}".strip())


_add_commands(ca, "ca")
_add_commands(signing_key, "signing-key")
