"""Adoption: who has to have taken up the trust of a rotation, and what each of them says that it has.

A source knows one sort of machine. What it says of a machine is what the machine itself reported, never what it was
sent: a document on the wire is not a document in force.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage import trust_reports
from control_plane.storage.trust_reports import LiveMachine

CONTROL_PLANE = "control_plane"
KINDS = (trust_reports.NODE, trust_reports.RELAY, CONTROL_PLANE)


@dataclass(frozen=True, slots=True)
class Standing:
    """What one live machine holds: a trust document's number (0 if it never said), and what it stands on itself.

    `root` is the SHA-256 of the root of its certificate, `token_key` the key of a node's listen token; None if unsaid.
    """

    kind: str
    subject_id: str
    name: str
    trust_sequence: int
    root: str | None
    token_key: str | None


class AdoptionSource(Protocol):
    """Knows what some of the machines hold."""

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what every machine that lived since this time holds."""
        ...


class ReportedAdoption:
    """Nodes and relays, by their reports: nodes' in answers to health checks, relays' in their reports."""

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what every node and relay that was heard of since this time holds."""
        nodes = await trust_reports.live_nodes(session, since_ms)
        relays = await trust_reports.live_relays(session, since_ms)
        return [_standing(trust_reports.NODE, node) for node in nodes] + [
            _standing(trust_reports.RELAY, relay) for relay in relays
        ]


class OwnAdoption:
    """This control plane itself: the only one, since the state directory and the keys in it are one process's."""

    def __init__(self, sequence: Callable[[], int], root: Callable[[], str | None]) -> None:
        self._sequence = sequence
        self._root = root

    async def standings(self, session: AsyncSession, since_ms: int) -> Sequence[Standing]:
        """Return what this control plane holds."""
        return [Standing(CONTROL_PLANE, CONTROL_PLANE, CONTROL_PLANE, self._sequence(), self._root(), None)]


async def all_standings(
    sources: Sequence[AdoptionSource], session: AsyncSession, since_ms: int
) -> tuple[Standing, ...]:
    """Return what every live machine of every source holds."""
    return tuple([standing for source in sources for standing in await source.standings(session, since_ms)])


def _standing(kind: str, machine: LiveMachine) -> Standing:
    return Standing(
        kind,
        machine.subject_id,
        machine.name,
        machine.trust_sequence or 0,
        machine.root,
        machine.token_key,
    )
