"""Progress: where a rotation stands, and what stands before each step that leads on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.rotation.adoption import AdoptionSource, Standing, all_standings, first_machines
from control_plane.rotation.gates import Laggard, Verdict, judge
from control_plane.settings import ControlPlaneSettings
from control_plane.signing.phases import TRANSITIONS, Gate, SignerKind, Step, legal_steps
from control_plane.signing.seats import Seats, read_seats
from control_plane.signing.token_ends import TokenEnds
from control_plane.storage.database import Database

# A token of the control plane's own is used at once: so long after a step, at most, one is on its way to its node.
IN_FLIGHT_MARGIN_SECONDS = 1.0
MOST_NAMED = 1000
"""So many laggards are told by name."""


@dataclass(frozen=True, slots=True)
class Progress:
    """A rotation, what the live machines hold, and the verdict on each step that the phase has."""

    seats: Seats
    standings: tuple[Standing, ...]
    verdicts: dict[Step, Verdict]

    @property
    def live(self) -> int:
        """How many machines live."""
        return sum(standing.number for standing in self.standings)


class Watch:
    """Finds out what stands before steps."""

    def __init__(
        self,
        database: Database,
        settings: ControlPlaneSettings,
        sources: Sequence[AdoptionSource],
        token_ends: TokenEnds,
    ) -> None:
        self._database = database
        self._live_seconds = settings.rotation.live_hours * 3600
        self._in_flight_seconds = settings.commands.call_timeout_seconds + IN_FLIGHT_MARGIN_SECONDS
        self._sources = tuple(sources)
        self._token_ends = token_ends

    async def begin(self, now: float, silent_seconds: float) -> None:
        """Find out what tokens are out, so long after anything was recorded last.

        Raises:
            StorageError: the database cannot be read.
        """
        async with self._database.read() as session:
            seats = (await read_seats(session, now)).signing_key
        noted = {signer.signer_id: signer.tokens_until for signer in seats.trusted if signer.tokens_until is not None}
        self._token_ends.begin(noted, silent_seconds)
        self.follow(seats)

    def follow(self, signing_keys: Seats) -> None:
        """Hold a key that signs tokens no more, from now on, until the last one of the control plane's own has come."""
        if signing_keys.retiring is not None:
            self._token_ends.note(signing_keys.retiring.signer_id, self._in_flight_seconds)

    async def progress(
        self, kinds: Sequence[SignerKind], now: float, *, most_named: int = MOST_NAMED
    ) -> list[Progress]:
        """Return where these rotations stand at the time `now`, with so many laggards of each step by name."""
        async with self._database.read() as session:
            seats = await read_seats(session, now)
            standings = await self._standings(session, now)
            return [await self._progress(session, seats.of(kind), standings, now, most_named) for kind in kinds]

    async def judge(self, session: AsyncSession, gate: Gate, seats: Seats, now: float) -> Verdict:
        """Return what stands before a step with this gate, by what this transaction sees."""
        verdict = self._judge(gate, seats, await self._standings(session, now), now)
        return await self._with_names(session, verdict, now, MOST_NAMED)

    async def _progress(
        self, session: AsyncSession, seats: Seats, standings: tuple[Standing, ...], now: float, most_named: int
    ) -> Progress:
        verdicts = {}
        for step in legal_steps(seats.phase):
            verdict = self._judge(TRANSITIONS[seats.phase, step].gate, seats, standings, now)
            verdicts[step] = await self._with_names(session, verdict, now, most_named)
        return Progress(seats, standings, verdicts)

    async def _with_names(self, session: AsyncSession, verdict: Verdict, now: float, most: int) -> Verdict:
        """Return the verdict with its first laggards by name."""
        problems = {some.standing: some.problem for some in verdict.laggards}
        if not problems or not most:
            return verdict
        machines = await first_machines(self._sources, session, self._since_ms(now), list(problems), most)
        return replace(verdict, named=tuple(Laggard(one, problems[one.standing]) for one in machines))

    async def _standings(self, session: AsyncSession, now: float) -> tuple[Standing, ...]:
        return await all_standings(self._sources, session, self._since_ms(now))

    def _since_ms(self, now: float) -> int:
        return int((now - self._live_seconds) * 1000)

    def _judge(self, gate: Gate, seats: Seats, standings: Sequence[Standing], now: float) -> Verdict:
        until = None if seats.retiring is None else self._token_ends.until(seats.retiring.signer_id)
        return judge(gate, seats, standings, tokens_until=until, now=now)
