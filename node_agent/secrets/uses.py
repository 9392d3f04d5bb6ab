"""Which command was given which secret: remembered until the control plane has it in its audit."""

import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from node_agent.commands.secret_references import Way

MOST_WAITING = 1000
MOST_IN_A_REPORT = 100


@dataclass(frozen=True, slots=True)
class SecretUse:
    """One secret given to one command in one way; `time` is milliseconds since the epoch."""

    secret: str
    version: int
    command_id: str
    submitted_by: str
    way: Way
    time: int


@dataclass(frozen=True, slots=True)
class UseReport:
    """A part of the uses under a name of its own; sent again, it is the same."""

    report_id: str
    uses: tuple[SecretUse, ...]
    dropped: int

    def document(self) -> dict[str, Any]:
        """Return the report as it is sent."""
        uses = [asdict(use) for use in self.uses]
        return {"report_id": self.report_id, "uses": uses, "uses_dropped": self.dropped}


class UseLog:
    """The uses that wait; beyond `MOST_WAITING` they are counted only."""

    def __init__(self, instance: str | None = None) -> None:
        self._instance = instance or uuid.uuid4().hex
        self._number = 0
        self._waiting: deque[SecretUse] = deque()
        self._dropped = 0
        self._open: UseReport | None = None
        self._subscribers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + (1 if self._dropped else 0) + (len(self._open.uses) if self._open else 0)

    def subscribe(self, recorded: Callable[[], None]) -> None:
        """Have `recorded` called after each use."""
        self._subscribers.append(recorded)

    def record(self, use: SecretUse) -> None:
        """Remember a use."""
        if len(self._waiting) >= MOST_WAITING:
            self._dropped += 1
        else:
            self._waiting.append(use)
        for recorded in self._subscribers:
            recorded()

    def report(self) -> UseReport:
        """Return the report to send now: the one that was not taken yet, or the next, which may be of no use at all."""
        if self._open is None:
            self._number += 1
            count = min(len(self._waiting), MOST_IN_A_REPORT)
            uses = tuple(self._waiting.popleft() for _ in range(count))
            self._open = UseReport(f"{self._instance}-{self._number}", uses, self._dropped)
            self._dropped = 0
        return self._open

    def taken(self) -> None:
        """Hear that the control plane has the report that `report` returned last."""
        self._open = None

    def abandon(self) -> None:
        """Hear that the control plane will never take that report: its uses are counted only, in the next."""
        if self._open is not None:
            self._dropped += len(self._open.uses) + self._open.dropped
            self._open = None
