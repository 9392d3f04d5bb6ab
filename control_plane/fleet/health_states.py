"""The states of a node, and what a health check does to them: one pure table with hysteresis.

    from        answered well      answered "degraded"    no answer
    pending     online             degraded               pending (it has not been seen yet)
    online      online             degraded               degraded; offline at the third in a row
    degraded    online             degraded               degraded; offline at the third in a row
    offline     degraded first,    degraded               offline
                online at the second in a row

A node that is connected but does not answer is not online. One lost answer is not an outage, and one answer after an
outage is not yet a recovery.
"""

from dataclasses import dataclass
from enum import Enum

FAILURES_TO_OFFLINE = 3
SUCCESSES_TO_ONLINE = 2


class NodeState(Enum):
    """The states; the values are those of the API."""

    PENDING = "pending"
    ONLINE = "online"
    DEGRADED = "degraded"
    OFFLINE = "offline"


class CheckResult(Enum):
    """What one health check found."""

    OK = "ok"
    DEGRADED = "degraded"
    NOT_REACHED = "not_reached"
    UNANSWERED = "unanswered"
    BAD_ANSWER = "bad_answer"

    @property
    def answered(self) -> bool:
        """Whether the agent itself answered the check."""
        return self in (CheckResult.OK, CheckResult.DEGRADED)


@dataclass(frozen=True, slots=True)
class Standing:
    """A node's state, and how many checks in a row failed or succeeded."""

    state: NodeState
    failures: int = 0
    successes: int = 0


def observe(standing: Standing, result: CheckResult) -> Standing:
    """Return the standing after one more check."""
    if not result.answered:
        return _failed(standing)
    successes = standing.successes + 1
    recovering = standing.state is NodeState.OFFLINE or (
        standing.state is NodeState.DEGRADED and standing.failures >= FAILURES_TO_OFFLINE
    )
    if result is CheckResult.DEGRADED:
        return Standing(NodeState.DEGRADED, successes=successes)
    if recovering and successes < SUCCESSES_TO_ONLINE:
        # On probation: one more failure and it is offline again.
        return Standing(NodeState.DEGRADED, failures=FAILURES_TO_OFFLINE, successes=successes)
    return Standing(NodeState.ONLINE, successes=successes)


def _failed(standing: Standing) -> Standing:
    failures = standing.failures + 1
    if standing.state is NodeState.PENDING:
        return Standing(NodeState.PENDING, failures=failures)
    if failures >= FAILURES_TO_OFFLINE or standing.state is NodeState.OFFLINE:
        return Standing(NodeState.OFFLINE, failures=failures)
    return Standing(NodeState.DEGRADED, failures=failures)
