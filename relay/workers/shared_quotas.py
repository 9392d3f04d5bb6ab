"""Quotas of a relay with workers: what calls use at one worker is charged at all of them, a few times a second.

Theory of operation. Every worker keeps all meters. What its own calls have used since it last told is told to the
others, who take it out of their buckets, into debt if need be; calls that are open there count as open here. So rates
hold for the relay as a whole, exactly over time; what may be too much is what the others admit between two tellings.
What is for turns whatever is owed is divided among the workers: with as much at each, debts would grow.
"""

from collections.abc import Iterable
from typing import Final

from relay.admission.quota_form import Quota
from relay.admission.quotas import TURN_SHARE, Meter, Party, Quotas

TELL_SECONDS: Final = 0.05

Used = tuple[str, str | None, int, int, int]
"""A party, and its calls begun and bytes passed since it was last told of, and its calls that are open."""


class SharedMeter(Meter):
    """A meter that others' calls count towards as well."""

    __slots__ = ("_changed", "_others", "_party", "begun", "passed_bytes")

    def __init__(
        self, party: Party, quota: Quota, now: float, changed: dict[Party, Meter], turn_share: float = TURN_SHARE
    ) -> None:
        """Begin; the meter enters itself in `changed` when there is something to tell."""
        Meter.__init__(self, quota, now, turn_share)
        self.begun = 0
        self.passed_bytes = 0
        self._party = party
        self._changed = changed
        self._others: dict[int, int] = {}

    def begin(self) -> None:
        """Count a call that begins here."""
        Meter.begin(self)
        self.begun += 1
        self._changed[self._party] = self

    def end(self) -> None:
        """Count its end."""
        Meter.end(self)
        self._changed[self._party] = self

    def spend(self, size: int) -> None:
        """Count bytes that have passed here."""
        Meter.spend(self, size)
        self.passed_bytes += size
        self._changed[self._party] = self

    def used(self) -> Used:
        """Return what has been used here since this was last asked."""
        begun, passed_bytes = self.begun, self.passed_bytes
        self.begun = self.passed_bytes = 0
        workspace_id, sender = self._party
        return workspace_id, sender, begun, passed_bytes, self.open - sum(self._others.values())

    def charge(self, worker: int, calls: int, size: int, opened: int) -> None:
        """Count what another worker tells."""
        self.open += opened - self._others.pop(worker, 0)
        if opened:
            self._others[worker] = opened
        Meter.spend(self, size)
        self._spend_calls(calls)

    def forget(self, worker: int) -> None:
        """Another worker has ended, and its calls with it."""
        self.open -= self._others.pop(worker, 0)


class SharedQuotas(Quotas):
    """The meters of one worker."""

    def __init__(self, workers: int) -> None:
        """Begin; `workers` is how many there are."""
        Quotas.__init__(self)
        self._turn_share = TURN_SHARE / workers
        self._changed: dict[Party, Meter] = {}

    def _meter(self, party: Party, quota: Quota, now: float) -> Meter:
        return SharedMeter(party, quota, now, self._changed, self._turn_share)

    def used(self) -> list[Used]:
        """Return what has been used here since this was last asked."""
        changed = list(self._changed.values())
        self._changed.clear()
        return [meter.used() for meter in changed if isinstance(meter, SharedMeter)]

    def charge(self, worker: int, used: Iterable[Used], now: float) -> None:
        """Count what another worker's calls have used."""
        for workspace_id, sender, calls, size, opened in used:
            meter = self._of(workspace_id, sender, now)
            if isinstance(meter, SharedMeter):
                meter.charge(worker, calls, size, opened)

    def forget(self, worker: int) -> None:
        """Another worker has ended."""
        for meter in (*self._workspaces.values(), *self._senders.values()):
            if isinstance(meter, SharedMeter):
                meter.forget(worker)

    def _of(self, workspace_id: str, sender: str | None, now: float) -> Meter | None:
        """Return a party's meter; None where it has none, and nothing bounds it.

        One that is there counts on, bounded or not: calls that end while nothing bounds them are not open under the
        next quota.
        """
        meter = self._workspaces.get(workspace_id) if sender is None else self._senders.get((workspace_id, sender))
        stated = self._quotas.get(workspace_id)
        if meter is not None or stated is None:
            return meter
        if sender is not None:
            return self._sender((workspace_id, sender), stated.sender, now)
        meter = self._workspaces[workspace_id] = self._meter((workspace_id, None), stated.workspace, now)
        return meter
