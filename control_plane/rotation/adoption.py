"""Adoption: who has to have taken up the trust of a rotation, and what each of them says that it has.

A source knows some sorts of machines. What it says of a machine is what the machine itself reported, never what it was
sent: a document on the wire is not a document in force. Machines that hold the same are counted, since there may be a
hundred thousand of them; who they are is looked up where somebody is to be told.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import trust_reports
from control_plane.storage.trust_reports import Held

CONTROL_PLANE = "control_plane"
KINDS = (trust_reports.NODE, trust_reports.RELAY, CONTROL_PLANE)


@dataclass(frozen=True, slots=True)
class Standing:
    """What live machines of a kind hold: a trust document's number (0: never said), and what they stand on themselves.

    `root` is the SHA-256 of the root of their certificates, `token_key` the key of nodes' listen tokens; None if
    unsaid. `number` is how many they are.
    """

    kind: str
    trust_sequence: int
    root: str | None
    token_key: str | None
    number: int = 1


@dataclass(frozen=True, slots=True)
class Machine:
    """One of the machines that hold this."""

    subject_id: str
    name: str
    standing: Standing


class AdoptionSource(Protocol):
    """Knows what some of the machines hold."""

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what the machines that lived since this time hold."""
        ...

    async def machines(
        self, session: AsyncSession, since_ms: int, standings: Sequence[Standing], most: int
    ) -> Sequence[Machine]:
        """Return the first of those machines whose standing is one of these."""
        ...


class ReportedAdoption:
    """Nodes and relays, by their reports: nodes' in answers to health checks, relays' in their reports."""

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what the nodes and relays that were heard of since this time hold."""
        found: list[Standing] = []
        for kind in (trust_reports.NODE, trust_reports.RELAY):
            counts = await trust_reports.count_live(session, kind, since_ms)
            found += [Standing(kind, *held, number) for held, number in counts]
        return found

    async def machines(
        self, session: AsyncSession, since_ms: int, standings: Sequence[Standing], most: int
    ) -> Sequence[Machine]:
        """Return the first of those nodes, and then of those relays, whose standing is one of these."""
        found: list[Machine] = []
        for kind in (trust_reports.NODE, trust_reports.RELAY):
            by_held = {_held(one): one for one in standings if one.kind == kind}
            rows = await trust_reports.first_live(session, kind, since_ms, list(by_held), most - len(found))
            found += [Machine(row.subject_id, row.name, by_held[row.held]) for row in rows if row.held in by_held]
        return found


class OwnAdoption:
    """This control plane itself: the only one, since the state directory and the keys in it are one process's."""

    def __init__(self, sequence: Callable[[], int], root: Callable[[], str | None]) -> None:
        self._sequence = sequence
        self._root = root

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what this control plane holds."""
        return [Standing(CONTROL_PLANE, self._sequence(), self._root(), None)]

    async def machines(
        self, session: AsyncSession, since_ms: int, standings: Sequence[Standing], most: int
    ) -> Sequence[Machine]:
        """Return this control plane, if its standing is one of these."""
        own = [Machine(CONTROL_PLANE, CONTROL_PLANE, one) for one in standings if one.kind == CONTROL_PLANE]
        return own[:most]


async def all_standings(
    sources: Iterable[AdoptionSource], session: AsyncSession, since_ms: int
) -> tuple[Standing, ...]:
    """Return what the live machines of every source hold."""
    return tuple([standing for source in sources for standing in await source.standings(session, since_ms)])


async def first_machines(
    sources: Iterable[AdoptionSource], session: AsyncSession, since_ms: int, standings: Sequence[Standing], most: int
) -> list[Machine]:
    """Return the first machines whose standing is one of these."""
    found: list[Machine] = []
    for source in sources:
        found += await source.machines(session, since_ms, standings, most - len(found))
    return found


def _held(standing: Standing) -> Held:
    return Held(standing.trust_sequence, standing.root, standing.token_key)
