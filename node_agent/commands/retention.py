"""Which ended commands are forgotten, and whose output is deleted before that."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from node_agent.commands.records import CommandRecord
from trunkline.runtime.clock import Clock

# By so much clocks are put back in the ordinary course of things.
CLOCK_STEP_SECONDS = 60.0
# For so long a clock has to be ahead of what it was before it is believed by whoever forgets.
LASTING_SECONDS = 3600.0


class LastingTime:
    """The wall's time for what cannot be taken back: that a clock was set forwards counts once it has lasted.

    By a clock that is ahead for a moment everything would be forgotten; what can be submitted still would run again. At
    the start of an agent, whose machine may have booted with a wrong clock, it is held against the newest record.
    """

    def __init__(self) -> None:
        self._offsets: deque[tuple[float, float]] = deque()

    def begin(self, clock: Clock, newest: float) -> None:
        """Take note of the newest time on record, in seconds since the epoch: so far, and no further, the past goes."""
        monotonic = clock.monotonic()
        self._offsets.append((monotonic, newest - monotonic))

    def now(self, clock: Clock) -> float:
        """Return the time, in seconds since the epoch; to be asked every now and then."""
        monotonic = clock.monotonic()
        self._offsets.append((monotonic, clock.now() - monotonic))
        while self._offsets[0][0] < monotonic - LASTING_SECONDS:
            self._offsets.popleft()
        return monotonic + min(offset for _, offset in self._offsets)


@dataclass(frozen=True, slots=True)
class RetentionBounds:
    """How long, how many and how much is kept of commands that have ended.

    `replayable` is how many come on top of `commands` because a token of theirs could still be accepted. Records are in
    memory too, so that fewer are kept where they are long: of all of them `shown_characters`.
    """

    age_seconds: float = 86400.0
    commands: int = 10_000
    output_bytes: int = 10 * 1024**3
    replayable: int = 30_000
    shown_characters: int = 64 * 1024**2

    @property
    def most_held(self) -> int:
        """How many commands are remembered at most; a node that remembers so many takes no other."""
        return self.commands + self.replayable


@dataclass(frozen=True, slots=True)
class Expiry:
    """What goes: whole commands, and the output of commands whose record stays."""

    commands: list[str]
    outputs: list[str]


def expired(ended: Iterable[CommandRecord], bounds: RetentionBounds, now: float, shown: float) -> Expiry:
    """Choose what goes, oldest first.

    A record stays, whatever the bounds say, while a token of its submit could be accepted: to forget it would be to let
    the same body run again. What ended later than the clock shows ended by one that was ahead, nobody knows when: it
    makes room for everything else.

    Args:
        ended: records in a terminal state.
        bounds: what is kept.
        now: wall time in seconds, of a clock that may be behind: by it things are old, and tokens expire.
        shown: what the clock shows.
    """
    newest_first = sorted(ended, key=lambda record: _age_key(record, shown), reverse=True)
    oldest_kept = (now - bounds.age_seconds) * 1000
    commands, outputs = [], []
    total_bytes = kept = characters = 0
    for record in newest_first:
        characters += record.shown_characters
        too_many = kept >= bounds.commands or characters > bounds.shown_characters
        outdated = (record.end_time or 0) < oldest_kept or too_many
        if outdated and not any(expires_at > now for expires_at in record.token_ids.values()):
            commands.append(record.command_id)
            continue
        kept += 1
        size = 0 if record.output_removed else record.stdout_bytes + record.stderr_bytes
        total_bytes += size
        if size and total_bytes > bounds.output_bytes:
            total_bytes -= size
            outputs.append(record.command_id)
    return Expiry(commands[::-1], outputs[::-1])


def newest_time(record: CommandRecord) -> float:
    """Return when something last happened to a command, in seconds since the epoch."""
    return max(record.submit_time, record.end_time or 0) / 1000


def _age_key(record: CommandRecord, shown: float) -> int:
    end = record.end_time or 0
    return end if end <= (shown + CLOCK_STEP_SECONDS) * 1000 else 0
