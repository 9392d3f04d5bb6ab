"""What the agent reports to the control plane: trust, what it cut for it, refusals, shells, and copied files.

Everything is folded before it waits: the newest trust document with the cuts since the last report, and refusals as
counts by outcome; openings and endings of shells, and what was done with files, are as many as fit. So what waits is
bounded, however many streams arrive. A batch is kept, and sent again under the same number, until the control plane has
taken it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from certs.trust import TrustVerdict
from node_agent.exchanges.watch import Cut
from node_agent.files.uses import FileUse
from node_agent.metrics import AgentMetrics
from node_agent.shells.causes import EndCause
from node_agent.shells.opening import Opening
from trunkline.runtime.clock import Clock

MOST_SHELL_ITEMS = 400
"""Openings and endings of shells that wait; those of more are counted as dropped."""
SHELL_ITEMS_IN_A_BATCH = 50
MOST_FILE_ITEMS = 2000
"""What was done with files and waits; what is more is counted as dropped, and is in the agent's own log."""
MOST_ITEMS_IN_A_BATCH = 100
MOST_PATH_CHARACTERS = 1024
MOST_CAUSES = 90
"""Revocations and locks whose cuts wait; those of more are counted as dropped."""
MOST_BODIES = 8
"""Hashes of refused commands that are reported with a rule and their count."""


@dataclass(slots=True)
class _RefusedCommands:
    count: int = 0
    bodies: set[str] = field(default_factory=set)


class Batch(NamedTuple):
    """What is sent in one request: `sequence` tells a repetition from news."""

    sequence: int
    items: list[dict[str, Any]]
    dropped: int


class Reports:
    """Collects, and hands out batches."""

    def __init__(self, metrics: AgentMetrics, clock: Clock) -> None:
        self.waiting = asyncio.Event()
        """Set while there is something that an operator may wait for; refusals alone do not set it."""
        self.urgent = asyncio.Event()
        """Set while something that was cut waits."""
        self._metrics = metrics
        self._clock = clock
        self._adopted: int | None = None
        self._cuts: dict[TrustVerdict, Counter[str]] = {}
        self._refusals: Counter[str] = Counter()
        self._refused_commands: dict[str, _RefusedCommands] = {}
        self._shells: deque[dict[str, Any]] = deque()
        self._files: deque[dict[str, Any]] = deque()
        self._dropped = 0
        self._sending: Batch | None = None
        # Numbers go on after a restart: they begin at the milliseconds since the epoch.
        self._sequence = int(clock.now() * 1000)

    def adopted(self, sequence: int, cut: Sequence[Cut] = (), links: Sequence[TrustVerdict] = ()) -> None:
        """Note that the trust document with this number is in force, and what was cut for it; links by their causes."""
        self._adopted = sequence
        for one in cut:
            self._count(one.verdict, "streams" if one.is_stream else "exchanges")
        for verdict in links:
            self._count(verdict, "links")
        self.waiting.set()
        if cut:
            self.urgent.set()

    def refused(self, outcome: str) -> None:
        """Count a stream that was not admitted; `outcome` is a metric's label, of which there are few."""
        self._refusals[outcome] += 1

    def command_refused(self, rule: str, body_sha256: str) -> None:
        """Count a command that a rule of the owner's refused, of which there are few, and keep some of their hashes."""
        refused = self._refused_commands.setdefault(rule, _RefusedCommands())
        refused.count += 1
        if len(refused.bodies) < MOST_BODIES:
            refused.bodies.add(body_sha256)

    def shell_opened(self, opening: Opening) -> None:
        """Note that a shell was opened."""
        self._add_shell(opening, {"event": "opened", "time": int(opening.time * 1000)})

    def shell_ended(self, opening: Opening, cause: EndCause, *, input_bytes: int, output_bytes: int) -> None:
        """Note that a shell has ended."""
        ending = {"event": "ended", "time": int(self._clock.now() * 1000), "cause": cause.value}
        self._add_shell(opening, ending | {"input_bytes": input_bytes, "output_bytes": output_bytes})

    def file_used(self, use: FileUse) -> None:
        """Note what was done with a file."""
        if len(self._files) >= MOST_FILE_ITEMS:
            self._drop(1)
            return
        about = {"subject": use.subject, "token_id": use.token_id}
        file = {
            "event": use.event.value, "outcome": use.outcome.value, "reason": use.reason,
            "path": _shortened(use.path), "user": use.user,
            "offset": use.offset, "size_bytes": use.size_bytes, "sha256": use.sha256,
        }  # fmt: skip
        self._files.append({"type": "file", "time": int(self._clock.now() * 1000), **about, "file": file})
        self._files_wait()

    def next_batch(self) -> Batch | None:
        """Return the batch to send: the one that was not taken yet, or the next, or `None` if nothing waits."""
        if self._sending is None:
            items = self._fold()
            if items or self._dropped:
                self._sequence += 1
                self._sending = Batch(self._sequence, items, self._dropped)
                self._dropped = 0
        return self._sending

    def taken(self, batch: Batch) -> None:
        """Forget a batch that the control plane has taken."""
        if self._sending is batch:
            self._sending = None
            self._metrics.reports_sent.inc(len(batch.items))

    def abandon(self, batch: Batch) -> None:
        """Drop a batch that the control plane will never take."""
        if self._sending is batch:
            self._sending = None
            self._drop(len(batch.items) + batch.dropped)

    def _fold(self) -> list[dict[str, Any]]:
        self.waiting.clear()
        self.urgent.clear()
        now_ms = int(self._clock.now() * 1000)
        items: list[dict[str, Any]] = []
        if self._adopted is not None:
            items.append({"type": "trust", "time": now_ms, "sequence": self._adopted, "cuts": _summed(self._cuts)})
        items += [
            {"type": "refusal", "time": now_ms, "outcome": outcome, "count": count}
            for outcome, count in self._refusals.items()
        ]
        items += [
            {
                "type": "command_refusal", "time": now_ms, "outcome": rule, "count": refused.count,
                "body_sha256": sorted(refused.bodies),
            }
            for rule, refused in self._refused_commands.items()
        ]  # fmt: skip
        self._refused_commands.clear()
        items += [self._shells.popleft() for _ in range(min(len(self._shells), SHELL_ITEMS_IN_A_BATCH))]
        room = max(0, MOST_ITEMS_IN_A_BATCH - len(items))
        items += [self._files.popleft() for _ in range(min(len(self._files), room))]
        if self._shells:
            self.waiting.set()
        self._files_wait()
        self._adopted = None
        self._cuts.clear()
        self._refusals.clear()
        return items

    def _count(self, verdict: TrustVerdict, what: str) -> None:
        if verdict not in self._cuts and len(self._cuts) >= MOST_CAUSES:
            self._drop(1)
        else:
            self._cuts.setdefault(verdict, Counter())[what] += 1

    def _add_shell(self, opening: Opening, event: dict[str, Any]) -> None:
        if len(self._shells) >= MOST_SHELL_ITEMS:
            self._drop(1)
            return
        happened = int(opening.time * 1000)
        shell = {"shell_id": opening.shell_id, "user": opening.user, "open_time": happened, **event}
        about = {"subject": opening.subject, "token_id": opening.token_id}
        self._shells.append({"type": "shell", "time": shell.pop("time"), **about, "shell": shell})
        self.waiting.set()

    def _files_wait(self) -> None:
        """Have them told; without a pause where they are more than a batch takes."""
        if self._files:
            self.waiting.set()
        if len(self._files) > MOST_ITEMS_IN_A_BATCH:
            self.urgent.set()

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._metrics.reports_dropped.inc(count)


def _shortened(path: str) -> str:
    """Return a path, without its middle if it is long: neither end of it can be kept out of the audit."""
    if len(path) <= MOST_PATH_CHARACTERS:
        return path
    half = MOST_PATH_CHARACTERS // 2 - 1
    return f"{path[:half]}…{path[-half:]}"


def _summed(cuts: dict[TrustVerdict, Counter[str]]) -> list[dict[str, Any]]:
    return [
        {"cause": "lock" if verdict.locked else "revocation", "kind": verdict.kind, "id": verdict.id, **counts}
        for verdict, counts in cuts.items()
    ]
