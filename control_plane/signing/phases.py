"""The phases of a rotation, as a table: the same for the certificate authority and for the key that signs tokens.

Two signers at most are trusted at a time: the *incumbent*, and during a rotation the *candidate*. The phase alone says
which one signs, so there is never more than one. A signer ends (is trusted no more) only where the table says so.

    STEADY ── prepare ──▶ PREPARED ── activate ──▶ ACTIVATED ── retire ──▶ STEADY, with the candidate as incumbent
      ▲                      │                      │    ▲
      ├────── rollback ──────┘              rollback│    │activate
      │                                             ▼    │
      └───────────────── retire ────────────────── ROLLED_BACK

A gate stands before a step that somebody could be hurt by: TRUSTED, everybody has the trust document that names the
signer which is to sign; LEFT, moreover nobody stands on the signer that is to end.
"""

from dataclasses import dataclass
from enum import Enum


class SignerKind(Enum):
    """What is rotated."""

    CA = "ca"
    SIGNING_KEY = "signing-key"


class Phase(Enum):
    """Where a rotation stands."""

    STEADY = "steady"
    PREPARED = "prepared"
    ACTIVATED = "activated"
    ROLLED_BACK = "rolled_back"


class Step(Enum):
    """What takes a rotation from one phase to another."""

    PREPARE = "prepare"
    ACTIVATE = "activate"
    RETIRE = "retire"
    ROLLBACK = "rollback"


class Seat(Enum):
    """One of the two signers of a rotation."""

    INCUMBENT = "incumbent"
    CANDIDATE = "candidate"


class Gate(Enum):
    """What has to be reported by everybody before a step."""

    OPEN = "open"
    TRUSTED = "trusted"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Transition:
    """What a step does: the phase after it, the gate before it, and the signer that ends with it."""

    to: Phase
    gate: Gate = Gate.OPEN
    ends: Seat | None = None


TRANSITIONS: dict[tuple[Phase, Step], Transition] = {
    (Phase.STEADY, Step.PREPARE): Transition(Phase.PREPARED),
    (Phase.PREPARED, Step.ACTIVATE): Transition(Phase.ACTIVATED, Gate.TRUSTED),
    (Phase.PREPARED, Step.ROLLBACK): Transition(Phase.STEADY, ends=Seat.CANDIDATE),
    (Phase.ACTIVATED, Step.RETIRE): Transition(Phase.STEADY, Gate.LEFT, ends=Seat.INCUMBENT),
    (Phase.ACTIVATED, Step.ROLLBACK): Transition(Phase.ROLLED_BACK),
    (Phase.ROLLED_BACK, Step.ACTIVATE): Transition(Phase.ACTIVATED, Gate.TRUSTED),
    (Phase.ROLLED_BACK, Step.RETIRE): Transition(Phase.STEADY, Gate.LEFT, ends=Seat.CANDIDATE),
}

SIGNS: dict[Phase, Seat] = {
    Phase.STEADY: Seat.INCUMBENT,
    Phase.PREPARED: Seat.INCUMBENT,
    Phase.ACTIVATED: Seat.CANDIDATE,
    Phase.ROLLED_BACK: Seat.INCUMBENT,
}
"""Whose key signs."""

LEAVES: dict[Phase, Seat] = {Phase.ACTIVATED: Seat.INCUMBENT, Phase.ROLLED_BACK: Seat.CANDIDATE}
"""Whose certificates and tokens are to be renewed under the other, in the phases in which there are such."""


def legal_steps(phase: Phase) -> list[Step]:
    """The steps that lead on from a phase."""
    return [step for at, step in TRANSITIONS if at is phase]
