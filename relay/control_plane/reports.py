"""Reports to the control plane: what happened here, batched, bounded, with floods folded into counts.

Single events wait in a queue of bounded length; what does not fit is counted as dropped. Admissions and refusals are
never single events: they are counted by who and where, and become one item each when their interval is over. A batch
is kept, and sent again under the same number, until the control plane has taken it.
"""

import asyncio
from collections import deque
from typing import Any, NamedTuple

from relay.admission.grants import Grant
from relay.metrics import RelayMetrics
from relay.settings import ReportsSettings
from relay.trust.credentials import Credential, Destination
from trunkline.channel.outcomes import Outcome
from trunkline.runtime.clock import Clock

MAX_REFUSAL_KINDS = 1000
URGENT = frozenset({"trust"})
"""What somebody waits for: an operator who has revoked something."""


class Batch(NamedTuple):
    """What is sent in one request: `sequence` tells a repetition from news."""

    sequence: int
    items: list[dict[str, Any]]
    dropped: int


class Reports:
    """Collects report items, and hands them out in batches."""

    def __init__(self, *, settings: ReportsSettings, metrics: RelayMetrics, clock: Clock) -> None:
        self.urgent = asyncio.Event()
        """Set when something waits that should not wait for the interval; whoever sends clears it."""
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._waiting: deque[dict[str, Any]] = deque()
        self._used: list[Grant] = []
        self._refusals: dict[tuple[str, str, str], int] = {}
        self._dropped = 0
        self._sending: Batch | None = None
        # Numbers go on after a restart: they begin at the milliseconds since the epoch.
        self._sequence = int(clock.now() * 1000)
        self._fold_at = clock.monotonic() + settings.fold_seconds

    def add(self, kind: str, **members: Any) -> None:
        """Add one event, or count it as dropped."""
        if len(self._waiting) >= self._settings.max_waiting:
            self._drop(1)
            return
        self._waiting.append({"type": kind, "time": int(self._clock.now() * 1000), **members})
        self._metrics.reports_waiting.set(len(self._waiting))
        if kind in URGENT:
            self.urgent.set()

    def take(self, items: list[dict[str, Any]], dropped: int) -> None:
        """Add what another process has collected, and what it has dropped."""
        room = max(0, self._settings.max_waiting - len(self._waiting))
        self._waiting += items[:room]
        self._metrics.reports_waiting.set(len(self._waiting))
        self._dropped += dropped
        if len(items) > room:
            self._drop(len(items) - room)

    def granted(self, grant: Grant) -> None:
        """Note a grant whose first call since the last report is admitted now; the grant itself counts the others."""
        if len(self._used) >= self._settings.max_waiting:
            self._drop(1)
            return
        self._used.append(grant)

    def refused(self, outcome: Outcome, destination: Destination | None, credential: Credential | None) -> None:
        """Count a refused call or link. Names that anybody can make up are not kept, only what a token vouches for."""
        token_id = (credential.token_id or "") if credential is not None else ""
        workspace = destination.workspace if destination is not None and token_id else ""
        key = (outcome.metric_label, workspace, token_id)
        if key not in self._refusals and len(self._refusals) >= MAX_REFUSAL_KINDS:
            key = (outcome.metric_label, "", "")
        self._refusals[key] = self._refusals.get(key, 0) + 1

    def next_batch(self) -> Batch | None:
        """Return the batch to send: the one that was not taken yet, or the next, or `None` if nothing waits."""
        if self._clock.monotonic() >= self._fold_at:
            self.fold()
        if self._sending is None and (self._waiting or self._dropped):
            count = min(len(self._waiting), self._settings.max_batch)
            items = [self._waiting.popleft() for _ in range(count)]
            self._sequence += 1
            self._sending = Batch(self._sequence, items, self._dropped)
            self._dropped = 0
            self._metrics.reports_waiting.set(len(self._waiting))
        return self._sending

    def handed_over(self, batch: Batch) -> None:
        """Forget a batch that another process of the relay sends on."""
        if self._sending is not None and self._sending.sequence == batch.sequence:
            self._sending = None

    def taken(self, batch: Batch) -> None:
        """Forget a batch that the control plane has taken."""
        if self._sending is not None and self._sending.sequence == batch.sequence:
            self._sending = None
            self._metrics.reports_sent.of().count += len(batch.items)

    def abandon(self, batch: Batch) -> None:
        """Drop a batch that the control plane will never take."""
        if self._sending is not None and self._sending.sequence == batch.sequence:
            self._sending = None
            self._drop(len(batch.items) + batch.dropped)

    def fold(self) -> None:
        """Turn what was counted into items."""
        self._fold_at = self._clock.monotonic() + self._settings.fold_seconds
        used, self._used = self._used, []
        for grant in used:
            count, grant.admitted = grant.admitted, 0
            self.add(
                "admission",
                outcome="granted",
                count=count,
                token_id=grant.credential.token_id,
                subject=grant.credential.subject,
                workspace_id=grant.listener.workspace_id,
                node_id=grant.listener.node_id,
                port=grant.destination.port,
            )
        refusals, self._refusals = self._refusals, {}
        for (outcome, workspace, token_id), count in refusals.items():
            known = {"workspace": workspace, "token_id": token_id} if token_id else {}
            self.add("refusal", count=count, outcome=outcome, **known)

    def _drop(self, count: int) -> None:
        self._dropped += count
        self._metrics.reports_dropped.of().count += count
