"""How a rotation is shown: phase, signers, and who stands before the next step."""

from __future__ import annotations

import json

import click

from trunkline.cli.exits import printable
from trunkline.cli.output import moment, say
from trunkline.client.records.rotations import Rotation, RotationSigner, RotationVerdict

SHOWN_LAGGARDS = 20
SHOWN_ID_CHARACTERS = 16


def print_rotation(rotation: Rotation, output: str) -> None:
    """Print where a rotation stands: lines for people, or the API's own object."""
    if output == "json":
        click.echo(json.dumps(rotation.model_dump(mode="json", exclude_none=True), indent=2))
        return
    for line in rotation_lines(rotation):
        say(line)


def rotation_lines(rotation: Rotation) -> list[str]:
    """The lines for people."""
    since = f" since {moment(rotation.step_time)}, by {rotation.stepped_by}" if rotation.step else ""
    lines = [printable(f"{rotation.kind}: {rotation.phase}{since}")]
    lines += [f"  {_signer(signer, rotation.kind)}" for signer in rotation.signers]
    for verdict in rotation.next_steps:
        lines.append(f"  next: {verdict_line(verdict, rotation.live)}")
        lines += [f"    {line}" for line in laggard_lines(verdict)]
    return lines


def verdict_line(verdict: RotationVerdict, live: int) -> str:
    """One line about a step that may come."""
    if verdict.open:
        return f"{verdict.step} (may be taken)"
    parts = []
    if verdict.behind:
        parts.append(f"{verdict.adopted} of {live} have followed")
    if verdict.tokens_until is not None:
        parts.append(f"tokens of the old key are out until {moment(verdict.tokens_until)}")
    return f"{verdict.step} (not yet: {'; '.join(parts)})"


def laggard_lines(verdict: RotationVerdict) -> list[str]:
    """A line for each of the first laggards."""
    shown = [printable(f"{one.kind} {one.name}: {one.problem}") for one in verdict.laggards[:SHOWN_LAGGARDS]]
    more = verdict.behind - len(shown)
    return [*shown, f"and {more} more"] if more > 0 else shown


def _signer(signer: RotationSigner, kind: str) -> str:
    role = "signs" if signer.active else "to be left" if signer.retiring else "trusted"
    ends = "ends" if kind == "ca" else "due"
    name = signer.signer_id[:SHOWN_ID_CHARACTERS] if kind == "ca" else signer.signer_id
    return printable(f"{name}  {role}, made {moment(signer.creation_time)}, {ends} {moment(signer.expire_time)}")
