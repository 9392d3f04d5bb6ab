"""Gates: whether everybody has reported what a step of a rotation needs, and who has not, with what they have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from control_plane.rotation.adoption import Standing
from control_plane.signing.phases import Gate, SignerKind
from control_plane.signing.seats import Seats
from control_plane.storage.trust_reports import NODE


@dataclass(frozen=True, slots=True)
class Laggard:
    """A machine that has not reported what is needed."""

    standing: Standing
    problem: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Before a step stand laggards (`adopted` counts the others), and until when tokens are out (milliseconds)."""

    adopted: int
    laggards: tuple[Laggard, ...] = ()
    tokens_until: int | None = None

    @property
    def open(self) -> bool:
        """Whether the step may be taken."""
        return not self.laggards and self.tokens_until is None


def judge(gate: Gate, seats: Seats, standings: Sequence[Standing], *, in_flight_seconds: float, now: float) -> Verdict:
    """Return what stands before a step with this gate, by what machines have reported.

    Args:
        gate: that of the step.
        seats: the rotation that the step is one of.
        standings: what every live machine holds.
        in_flight_seconds: how long after a step a token of the control plane's own may still be on its way.
        now: seconds since the epoch.
    """
    if gate is Gate.OPEN:
        return Verdict(len(standings))
    laggards = tuple(_laggards(gate, seats, standings))
    until = _tokens_until(seats, in_flight_seconds, now) if gate is Gate.LEFT else None
    return Verdict(len(standings) - len(laggards), laggards, until)


def _laggards(gate: Gate, seats: Seats, standings: Iterable[Standing]) -> Iterable[Laggard]:
    for standing in standings:
        problem = _unadopted(seats, standing) or (_unleft(seats, standing) if gate is Gate.LEFT else None)
        if problem is not None:
            yield Laggard(standing, problem)


def _unadopted(seats: Seats, standing: Standing) -> str | None:
    needed = seats.rotation.gate_sequence
    if standing.trust_sequence >= needed:
        return None
    if standing.trust_sequence == 0:
        return f"has not reported yet which trust document it has; needs {needed}"
    return f"has trust document {standing.trust_sequence}, needs {needed}"


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


def _tokens_until(seats: Seats, in_flight_seconds: float, now: float) -> int | None:
    """Until when tokens that operators were given stand on the key that is to end; None if none does any more."""
    retiring = seats.retiring
    if retiring is None or SignerKind(seats.rotation.kind) is not SignerKind.SIGNING_KEY:
        return None
    in_flight = seats.rotation.step_time + int(in_flight_seconds * 1000)
    until = max(retiring.tokens_until or 0, in_flight)
    return until if until > now * 1000 else None
