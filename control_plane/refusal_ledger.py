"""Refusals, counted before they are written: the audit learns of each kind of refusal, whatever flood arrives.

Theory of operation. Refusals are counted by (action, reason). The first of a kind is written to the audit at the next
flush; the same kind is then written at most after 10 s, 1 min, 10 min, and from then on once an hour, each time with
the number counted since and a few of the addresses, token ids and evidence hashes. A kind that was quiet for an hour
starts anew. There are as many kinds as routes (and relays) times reasons, so the table grows by a bounded number of
rows a day. Some reasons hold what nodes and strangers say: of one action so many are kept apart, and the rest is
counted as others of that action, so that nobody's refusals hide those of another's.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from control_plane.storage.audit import Actor, Happening, append
from control_plane.storage.database import Database
from control_plane.storage.errors import StorageError
from trunkline.runtime.clock import Clock
from trunkline.runtime.logs import Logger

PAUSES_SECONDS = (0.0, 10.0, 60.0, 600.0, 3600.0)
FLUSH_SECONDS = 0.5
MOST_KINDS = 512
MOST_REASONS = 32
"""Of one action."""
MOST_SAMPLES = 8
OVERFLOW = "other"


@dataclass(slots=True)
class _Kind:
    count: int = 0
    step: int = 0
    written_at: float = float("-inf")
    samples: dict[str, set[str]] = field(default_factory=dict)

    def sample(self, name: str, value: str | None) -> None:
        """Keep one of a few values that the refusals had."""
        found = self.samples.setdefault(name, set())
        if value is not None and len(found) < MOST_SAMPLES:
            found.add(value)


class RefusalLedger:
    """Counts refusals and writes them to the audit at a bounded rate."""

    def __init__(self, *, database: Database, clock: Clock, log: Logger) -> None:
        self._database = database
        self._clock = clock
        self._log = log
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def record(
        self,
        action: str,
        reason: str,
        actor: Actor,
        evidence_sha256: str | None = None,
        *,
        count: int = 1,
        token_id: str | None = None,
        body_sha256: Sequence[str] = (),
    ) -> None:
        """Count refusals: one, or `count` that a relay or node reports."""
        kind = self._kinds.setdefault(self._key(action, reason), _Kind())
        kind.count += count
        kind.sample("source_addresses", actor.source_address)
        kind.sample("evidence_sha256", evidence_sha256)
        kind.sample("token_ids", token_id)
        for one in body_sha256:
            kind.sample("body_sha256", one)

    def _key(self, action: str, reason: str) -> tuple[str, str]:
        """Return the kind under which a refusal is counted."""
        if (action, reason) in self._kinds:
            return action, reason
        if sum(known == action for known, _ in self._kinds) >= MOST_REASONS:
            reason = OVERFLOW
        if (action, reason) not in self._kinds and len(self._kinds) >= MOST_KINDS:
            return OVERFLOW, OVERFLOW
        return action, reason

    async def flush(self) -> None:
        """Write what is due, in one transaction; what cannot be written is counted on."""
        due = [(key, kind) for key, kind in self._kinds.items() if self._is_due(kind)]
        self._forget_quiet()
        if not due:
            return
        now = self._clock.now()
        told = [(kind, kind.count) for _, kind in due]
        happenings = [_happening(*key, kind) for key, kind in due]
        async with self._database.write() as session:
            for happening in happenings:
                append(session, now, Actor("anonymous"), happening)
        for kind, count in told:
            self._settle(kind, count)

    async def run(self) -> None:
        """Flush for ever."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.try_to_flush()

    async def try_to_flush(self) -> None:
        """Write what is due, unless the database is away."""
        try:
            await self.flush()
        except StorageError as error:
            self._log.error("audit.refusals_not_written", reason=str(error))

    def _is_due(self, kind: _Kind) -> bool:
        return kind.count > 0 and self._clock.monotonic() - kind.written_at >= PAUSES_SECONDS[kind.step]

    def _settle(self, kind: _Kind, count: int) -> None:
        """Take what is on the disk off the count; others may have come while it was written."""
        kind.count -= count
        kind.step = min(kind.step + 1, len(PAUSES_SECONDS) - 1)
        kind.written_at = self._clock.monotonic()
        if kind.count == 0:
            kind.samples.clear()

    def _forget_quiet(self) -> None:
        limit = self._clock.monotonic() - PAUSES_SECONDS[-1]
        for key in [key for key, kind in self._kinds.items() if kind.count == 0 and kind.written_at < limit]:
            del self._kinds[key]


def _happening(action: str, reason: str, kind: _Kind) -> Happening:
    samples = {name: sorted(values) for name, values in kind.samples.items() if values}
    return Happening(action, f"refused: {reason}", details={"count": kind.count, **samples})
