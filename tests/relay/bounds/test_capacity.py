from structlog.testing import capture_logs

from relay.bounds.capacity import CONNECTION_BYTES, credit_budget, most_connections
from relay.settings import LimitsSettings
from trunkline.runtime.logs import get_logger

MIB = 1024 * 1024


def test_a_process_with_little_memory_holds_less() -> None:
    budget = credit_budget(LimitsSettings(memory_bytes=256 * MIB), 1)
    assert (budget.limit_bytes, budget.held_limit_bytes) == (32 * MIB, 64 * MIB)


def test_with_enough_memory_the_settings_count() -> None:
    limits = LimitsSettings(memory_bytes=64 * 1024 * MIB)
    budget = credit_budget(limits, 1)
    assert (budget.limit_bytes, budget.held_limit_bytes) == (limits.credit_budget_bytes, limits.held_budget_bytes)
    assert most_connections(limits, 1, get_logger("test")) == limits.max_connections


def test_connections_for_which_there_is_no_memory_are_not_taken() -> None:
    with capture_logs() as lines:
        bound = most_connections(LimitsSettings(memory_bytes=256 * MIB), 1, get_logger("test"))
    assert bound * CONNECTION_BYTES < 256 * MIB * 0.6
    assert bound > 2500
    assert [line["event"] for line in lines] == ["relay.fewer_connections"]


def test_further_processes_take_memory_before_they_have_a_connection() -> None:
    with capture_logs():
        alone, two = (
            most_connections(LimitsSettings(memory_bytes=256 * MIB), workers, get_logger("test")) for workers in (1, 2)
        )
        least = most_connections(LimitsSettings(memory_bytes=64 * MIB), 4, get_logger("test"))
    assert 1500 < 2 * two < alone - 1000
    assert least > 10
