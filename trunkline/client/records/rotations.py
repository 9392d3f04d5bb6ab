"""Rotations of the certificate authority and of the signing key."""

from __future__ import annotations

from trunkline.client.records.record import Record


class Laggard(Record):
    """A live node, relay or control plane that has not reported what a step needs, and what it has."""

    kind: str
    id: str
    name: str
    trust_sequence: int = 0
    problem: str = ""


class RotationVerdict(Record):
    """What stands before a step: whether it may be taken, how many have followed, who has not, which tokens are out."""

    step: str
    open: bool
    adopted: int = 0
    behind: int = 0
    laggards: tuple[Laggard, ...] = ()
    tokens_until: int | None = None


class RotationSigner(Record):
    """One of the two signers of a rotation; `expire_time` of a signing key is when it is due to be rotated."""

    signer_id: str
    seat: str = ""
    active: bool = False
    retiring: bool = False
    creation_time: int = 0
    expire_time: int = 0
    tokens_until: int | None = None


class Rotation(Record):
    """Where the rotation of the certificate authority or of the signing key stands."""

    kind: str
    phase: str
    version: int
    step: str | None = None
    step_time: int = 0
    stepped_by: str = ""
    trust_sequence: int = 0
    gate_sequence: int = 0
    live: int = 0
    signers: tuple[RotationSigner, ...] = ()
    next_steps: tuple[RotationVerdict, ...] = ()

    def next(self, step: str) -> RotationVerdict | None:
        """What stands before a step, or None if the phase has no such step."""
        return next((verdict for verdict in self.next_steps if verdict.step == step), None)
