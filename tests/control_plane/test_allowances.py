"""Allowances: a minute's worth at once, the rate after that, each node by itself, and nothing kept of idle ones."""

import asyncio

import pytest

from control_plane.allowances import FIRST_SWEEP, Allowances
from control_plane.errors import ApiError, ErrorCode
from tests.support.loop_clock import LoopClock
from tests.support.virtual_time import in_virtual_time


def refused(allowances: Allowances, node_id: str, records: int = 1) -> int:
    """How long the node is told to wait."""
    with pytest.raises(ApiError) as error:
        allowances.spend(node_id, records)
    assert error.value.code is ErrorCode.RESOURCE_EXHAUSTED
    return error.value.retry_after_seconds or 0


@in_virtual_time
async def test_a_burst_then_the_rate_and_each_node_by_itself() -> None:
    allowances = Allowances(0.2, LoopClock())
    allowances.spend("a", 119)
    allowances.spend("a")
    assert refused(allowances, "a") == 5
    assert refused(allowances, "a", 100) == 500
    allowances.spend("b", 120)
    await asyncio.sleep(500.0)
    allowances.spend("a", 100)
    assert refused(allowances, "a") == 5, "what was refused was not taken"


@in_virtual_time
async def test_more_than_there_ever_is_room_for_is_taken_once_there_is_all_of_it() -> None:
    allowances = Allowances(0.1, LoopClock())
    allowances.spend("a", 1000)
    assert refused(allowances, "a", 1000) == 600


@in_virtual_time
async def test_idle_nodes_are_forgotten() -> None:
    allowances = Allowances(1.0, LoopClock())
    for number in range(FIRST_SWEEP - 1):
        allowances.spend(f"node-{number}")
    await asyncio.sleep(10.0)
    allowances.spend("busy", 300)
    assert len(allowances._left) == 1
    assert refused(allowances, "busy", 600) == 300
