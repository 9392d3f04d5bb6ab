"""What the process has room for, where its memory is limited: bounds that are less than those of the settings."""

from typing import Final

from relay.bounds.memory import limit_bytes
from relay.settings import LimitsSettings
from trunkline.channel.limits import CreditBudget
from trunkline.runtime.logs import Logger

CREDIT_SHARE: Final = 1 / 8
HELD_SHARE: Final = 1 / 4
"""Of the memory, what may be held for those who do not take it."""
CONNECTIONS_SHARE: Final = 0.6
CONNECTION_BYTES: Final = 56 * 1024
"""What a connection or link that does nothing takes, TLS included, and a little more."""
FURTHER_PROCESS_BYTES: Final = 50 * 1024 * 1024
"""What a process takes before it has a connection, beside what it shares with the others."""
LEAST_SHARE: Final = 1 / 4
"""What is left of a memory that further processes would fill."""


def memory_limit(limits: LimitsSettings) -> int | None:
    """Return how many bytes the relay may hold; None if nothing bounds it."""
    return limits.memory_bytes or limit_bytes()


def credit_budget(limits: LimitsSettings, workers: int) -> CreditBudget:
    """Return the budget of all links of a worker: that of the settings, or what its part of the memory allows."""
    memory = _part(limits, workers)
    if memory is None:
        return CreditBudget(limits.credit_budget_bytes, limits.held_budget_bytes)
    return CreditBudget(
        min(limits.credit_budget_bytes, int(memory * CREDIT_SHARE)),
        min(limits.held_budget_bytes, int(memory * HELD_SHARE)),
    )


def most_connections(limits: LimitsSettings, workers: int, log: Logger) -> int:
    """Return how many connections a worker may have: as many as the settings say, or as its memory has room for."""
    memory, wanted = _part(limits, workers), limits.max_connections
    if memory is None or wanted * CONNECTION_BYTES <= memory * CONNECTIONS_SHARE:
        return wanted
    bound = max(1, int(memory * CONNECTIONS_SHARE) // CONNECTION_BYTES)
    log.warning("relay.fewer_connections", max_connections=bound, wanted=wanted, hint="give the process more memory")
    return bound


def _part(limits: LimitsSettings, workers: int) -> int | None:
    """Return a worker's part of the memory; where there are several, the parent is one process more."""
    memory = memory_limit(limits)
    if memory is None or workers == 1:
        return memory
    return max(memory - workers * FURTHER_PROCESS_BYTES, int(memory * LEAST_SHARE)) // workers
