"""Progress: where a rotation stands, and what stands before each step that leads on."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.rotation.adoption import AdoptionSource, Standing, all_standings
from control_plane.rotation.gates import Verdict, judge
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.phases import TRANSITIONS, Gate, SignerKind, Step, legal_steps
from control_plane.signing.seats import Seats, read_seats
from control_plane.storage.database import Database

# A token of the control plane's own is used at once: so long after a step, at most, one is on its way to its node.
IN_FLIGHT_MARGIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Progress:
    """A rotation, what every live machine holds, and the verdict on each step that the phase has."""

    seats: Seats
    standings: tuple[Standing, ...]
    verdicts: dict[Step, Verdict]


class Watch:
    """Finds out what stands before steps."""

    def __init__(self, database: Database, settings: ControlPlaneSettings, sources: Sequence[AdoptionSource]) -> None:
        self._database = database
        self._live_seconds = settings.rotation.live_hours * 3600
        self._in_flight_seconds = settings.commands.call_timeout_seconds + IN_FLIGHT_MARGIN_SECONDS
        self._sources = tuple(sources)

    async def progress(self, kind: SignerKind, now: float) -> Progress:
        """Return where a rotation stands at the time `now`."""
        async with self._database.read() as session:
            seats = (await read_seats(session, now)).of(kind)
            standings = await self._standings(session, now)
        gates = {step: TRANSITIONS[seats.phase, step].gate for step in legal_steps(seats.phase)}
        verdicts = {step: self._judge(gate, seats, standings, now) for step, gate in gates.items()}
        return Progress(seats, standings, verdicts)

    async def judge(self, session: AsyncSession, gate: Gate, seats: Seats, now: float) -> Verdict:
        """Return what stands before a step with this gate, by what this transaction sees."""
        return self._judge(gate, seats, await self._standings(session, now), now)

    async def _standings(self, session: AsyncSession, now: float) -> tuple[Standing, ...]:
        return await all_standings(self._sources, session, int((now - self._live_seconds) * 1000))

    def _judge(self, gate: Gate, seats: Seats, standings: Sequence[Standing], now: float) -> Verdict:
        return judge(gate, seats, standings, in_flight_seconds=self._in_flight_seconds, now=now)
