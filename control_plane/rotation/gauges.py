"""The gauges of rotations: phase, signers with their ends, and how many machines have followed."""

from collections import Counter
from collections.abc import Iterable

from control_plane.metrics import ControlPlaneMetrics
from control_plane.rotation.adoption import KINDS, Standing
from control_plane.rotation.progress import Progress
from control_plane.signing.ends import expire_time
from control_plane.signing.phases import Phase, Seat, SignerKind, Step
from control_plane.signing.seats import Seats

SHOWN_ID_CHARACTERS = 16
_FORWARD = (Step.ACTIVATE, Step.RETIRE)


class RotationGauges:
    """Sets the gauges to what was found."""

    def __init__(self, metrics: ControlPlaneMetrics, *, signing_key_days: int) -> None:
        self._metrics = metrics
        self._signing_key_days = signing_key_days

    def tell(self, kind: SignerKind, progress: Progress) -> None:
        """Say where a rotation stands."""
        for phase in Phase:
            self._metrics.rotation_phase.labels(kind.value, phase.value).set(phase is progress.seats.phase)
        self._metrics.rotation_step_time.labels(kind.value).set(progress.seats.rotation.step_time / 1000)
        self._tell_signers(kind, progress.seats)
        self._tell_adoption(kind, progress)

    def _tell_signers(self, kind: SignerKind, seats: Seats) -> None:
        for seat in Seat:
            signer = seats.incumbent if seat is Seat.INCUMBENT else seats.candidate
            expiry = expire_time(signer, self._signing_key_days) / 1000 if signer is not None else 0
            self._metrics.signer_expiry.labels(kind.value, seat.value).set(expiry)

    def _tell_adoption(self, kind: SignerKind, progress: Progress) -> None:
        verdict = next((progress.verdicts[step] for step in _FORWARD if step in progress.verdicts), None)
        live = _numbers(progress.standings)
        behind = _numbers(some.standing for some in verdict.laggards) if verdict is not None else Counter()
        for machine in KINDS:
            self._metrics.adoption.labels(kind.value, machine, "behind").set(behind[machine])
            self._metrics.adoption.labels(kind.value, machine, "adopted").set(live[machine] - behind[machine])


def _numbers(standings: Iterable[Standing]) -> Counter[str]:
    """Return how many machines there are of each kind."""
    found = Counter[str]()
    for standing in standings:
        found[standing.kind] += standing.number
    return found
