"""Gates: whether everybody has reported what a step of a rotation needs, and who has not, with what they have.

An authority that was prepared while this machine's clock was years behind has ended by the right one: it could issue
nothing, and no control plane would start with it. So it is this control plane that has not followed then, and no force
passes over that.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from control_plane.rotation.adoption import CONTROL_PLANE, Machine, Standing
from control_plane.signing.phases import Gate, SignerKind
from control_plane.signing.seats import Seats, certificates_of
from control_plane.storage.trust_reports import NODE


@dataclass(frozen=True, slots=True)
class Laggards:
    """Machines that have not reported what is needed, and hold the same; `certain` where no force may pass over it."""

    standing: Standing
    problem: str
    certain: bool = False


@dataclass(frozen=True, slots=True)
class Laggard:
    """One of them."""

    machine: Machine
    problem: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Before a step stand laggards (`adopted` counts the others), and until when tokens are out (milliseconds).

    `named` are the first of the laggards, where somebody asks who they are.
    """

    adopted: int
    laggards: tuple[Laggards, ...] = ()
    tokens_until: int | None = None
    named: tuple[Laggard, ...] = ()

    @property
    def behind(self) -> int:
        """How many laggards there are."""
        return sum(some.standing.number for some in self.laggards)

    @property
    def open(self) -> bool:
        """Whether the step may be taken."""
        return not self.laggards and self.tokens_until is None

    @property
    def forcible(self) -> bool:
        """Whether the step may be forced where it may not be taken."""
        return not any(laggard.certain for laggard in self.laggards)


def judge(gate: Gate, seats: Seats, standings: Sequence[Standing], *, tokens_until: int | None, now: float) -> Verdict:
    """Return what stands before a step with this gate, by what machines have reported.

    Args:
        gate: that of the step.
        seats: the rotation that the step is one of.
        standings: what the live machines hold.
        tokens_until: until when tokens of the key that is to end are out (milliseconds); None if none are.
        now: seconds since the epoch.
    """
    if gate is Gate.OPEN:
        return Verdict(_number(standings))
    laggards = tuple(_laggards(gate, seats, standings, now))
    until = tokens_until if gate is Gate.LEFT and seats.rotation.kind == SignerKind.SIGNING_KEY.value else None
    return Verdict(_number(standings) - _number(some.standing for some in laggards), laggards, until)


def _number(standings: Iterable[Standing]) -> int:
    return sum(standing.number for standing in standings)


def _laggards(gate: Gate, seats: Seats, standings: Iterable[Standing], now: float) -> Iterable[Laggards]:
    for standing in standings:
        if standing.kind == CONTROL_PLANE and gate is Gate.TRUSTED and (ended := _ended(seats, now)) is not None:
            yield Laggards(standing, ended, certain=True)
            continue
        problem = _unadopted(seats, standing) or (_unleft(seats, standing) if gate is Gate.LEFT else None)
        if problem is not None:
            yield Laggards(standing, problem)


def _unadopted(seats: Seats, standing: Standing) -> str | None:
    needed = seats.rotation.gate_sequence
    if standing.trust_sequence >= needed:
        return None
    if standing.trust_sequence == 0:
        return f"has not reported yet which trust document it has; needs {needed}"
    return f"has trust document {standing.trust_sequence}, needs {needed}"


def _ended(seats: Seats, now: float) -> str | None:
    """Whether the authority that is to sign cannot issue any more."""
    if seats.candidate is None or SignerKind(seats.rotation.kind) is not SignerKind.CA:
        return None
    ends = certificates_of(seats.candidate).not_after
    if now < ends:
        return None
    moments = (f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%SZ}" for moment in (ends, now))
    return "the new issuing CA ended {}, and it is {} here: if that is right, roll back and prepare again".format(
        *moments
    )


def _unleft(seats: Seats, standing: Standing) -> str | None:
    """Whether a machine stands on the signer that is to end; silence counts as that it does."""
    retiring = seats.retiring
    if retiring is None:
        return None
    if SignerKind(seats.rotation.kind) is SignerKind.CA:
        held, what, under = standing.root, "certificate", "under the root"
    elif standing.kind == NODE:
        held, what, under = standing.token_key, "listen token", "of the key"
    else:
        return None
    if held is None:
        return f"does not say which {what} it has"
    return f"still has a {what} {under} {held[:16]}" if held == retiring.signer_id else None
