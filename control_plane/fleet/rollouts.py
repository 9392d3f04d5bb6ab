"""Rollouts: how many of a submission's commands may start now, and whether the rest is stopped; pure decisions.

Theory of operation. The nodes of a submission are fixed, and in one order, when it is accepted; they are cut into
waves of which each begins when every command of the one before has ended, and the pause is over. All commands but
those let go are *held*: no node hears of them. A decision is a function of a few counts for each wave, so that it can
be made again after any crash.

What counts as failed: FAILED, TIMED_OUT and LOST, and what is `unreached`: a command that a node has, or may have,
while the node could not be asked for as long as a delivery may take. It holds its place among the concurrent ones,
since it may be running, but its wave does not wait for it. CANCELLED is no failure, except in a canary, which has to
succeed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

POLLS_PER_SECOND = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """A rollout over a known number of nodes; every share has become a number.

    Attributes:
        waves: how many nodes each wave has; none is empty.
        canary: whether the first wave is a canary, of which every command has to succeed.
        max_concurrent: how many commands may be under way at once.
        max_failures: how many may fail before the rest is stopped; None for any number.
        pause_milliseconds: how long a wave waits after the end of the one before.
    """

    waves: tuple[int, ...]
    canary: bool
    max_concurrent: int
    max_failures: int | None
    pause_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class WaveCount:
    """The commands of one wave, each counted once: held, unsent, open, unreached, or ended in one of three ways.

    `unsent` ones were let go, and no node has them yet for all that is known; `open` ones are, or may be, on a node.
    """

    held: int = 0
    unsent: int = 0
    open: int = 0
    unreached: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def under_way(self) -> int:
        """How many are, or may be, running or about to."""
        return self.unsent + self.open + self.unreached

    @property
    def failures(self) -> int:
        """How many count against the error budget."""
        return self.failed + self.unreached

    @property
    def over(self) -> bool:
        """Whether the next wave need not wait for this one any more."""
        return not (self.held or self.unsent or self.open)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do now.

    Attributes:
        wave: the wave that is under way, counted from 0.
        start: how many more of its held commands may start, in their order.
        over_since: since when that wave is over while the next has not begun, for the next decision.
        wake_time: when to decide again even if nothing changes.
        stop: why everything that no node has yet is to be ended; None while it is not.
    """

    wave: int
    start: int = 0
    over_since: int | None = None
    wake_time: int | None = None
    stop: str | None = None


def decide(plan: Plan, counts: Sequence[WaveCount], *, wave: int, over_since: int | None, now_ms: int) -> Decision:
    """Return what to do about a rollout that was not stopped.

    Args:
        plan: the rollout.
        counts: the commands of each wave as they are now.
        wave: the wave that the last decision left under way.
        over_since: as the last decision has it.
        now_ms: the wall clock.
    """
    reason = _reason_to_stop(plan, counts)
    if reason is not None and any(count.held or count.unsent for count in counts):
        return Decision(wave, stop=reason)
    while wave + 1 < len(plan.waves) and counts[wave].over:
        over_since = now_ms if over_since is None else min(over_since, now_ms)
        begins = over_since + plan.pause_milliseconds
        if now_ms < begins:
            return Decision(wave, over_since=over_since, wake_time=begins)
        wave, over_since = wave + 1, None
    free = plan.max_concurrent - sum(count.under_way for count in counts)
    return Decision(wave, start=max(0, min(free, counts[wave].held)))


def cut_into_waves(nodes: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return how many nodes each wave has: the sizes in turn, the last again and again, until all nodes have one.

    Sizes are at least 1; without any there is one wave.
    """
    waves: list[int] = []
    while (left := nodes - sum(waves)) > 0:
        size = sizes[min(len(waves), len(sizes) - 1)] if sizes else left
        waves.append(min(size, left))
    return tuple(waves)


def share(asked: int | str, nodes: int, *, least: int) -> int:
    """Return a number of nodes, given as such or as `N%` of them, which is rounded down but to no less than `least`."""
    if isinstance(asked, int):
        return max(least, asked)
    return max(least, nodes * int(asked.removesuffix("%")) // 100)


def slowest_poll_seconds(max_concurrent: int) -> float:
    """Return how often the commands of a rollout are asked for at least, since others wait for their end.

    It is once a second up to 50 at once; of more, 50 a second are asked for.
    """
    return max(1.0, max_concurrent / POLLS_PER_SECOND)


def _reason_to_stop(plan: Plan, counts: Sequence[WaveCount]) -> str | None:
    canary = counts[0]
    if plan.canary and canary.failures + canary.cancelled:
        return "the canary did not succeed"
    failures = sum(count.failures for count in counts)
    if plan.max_failures is not None and failures > plan.max_failures:
        return f"the error budget is spent: {failures} failed, {plan.max_failures} may"
    return None
