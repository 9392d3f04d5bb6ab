from typing import Any

from relay.drain.unfinished import MAX_NAMED_CALLS
from relay.workers.states import State, WorkerStates


def left(calls: int, *, began: str = "2026-01-01T00:00:00+00:00") -> dict[str, Any]:
    told = [{"request_id": f"{began}-{number}", "start_time": began} for number in range(min(calls, MAX_NAMED_CALLS))]
    return {"connections": calls + 1, "sender_links": 1, "listener_links": 2, "calls_open": calls, "calls": told}


def drained(*told: dict[str, Any] | None) -> WorkerStates:
    states = WorkerStates()
    for worker, one in enumerate(told, start=1):
        states.said(worker, State({}, {}, one))
    return states


def test_what_is_left_is_not_told_before_every_worker_has() -> None:
    assert drained(left(3), None).left() is None
    assert drained(None, None).left() is None


def test_what_is_left_is_that_of_all_workers_and_the_oldest_calls_come_first() -> None:
    told = drained(left(2, began="2026-01-01T00:00:02+00:00"), left(1, began="2026-01-01T00:00:01+00:00")).left()
    assert told is not None
    assert (told["connections"], told["sender_links"], told["listener_links"], told["calls_open"]) == (5, 2, 4, 3)
    assert [call["start_time"][-8:-6] for call in told["calls"]] == ["01", "02", "02"]


def test_no_more_calls_are_named_than_by_a_relay_of_one_process() -> None:
    told = drained(left(MAX_NAMED_CALLS), left(5)).left()
    assert told is not None
    assert len(told["calls"]) == MAX_NAMED_CALLS
    assert told["calls_open"] == MAX_NAMED_CALLS + 5


def test_a_worker_that_has_ended_is_not_waited_for() -> None:
    states = drained(left(1), None)
    states.ended(2)
    told = states.left()
    assert told is not None
    assert told["calls_open"] == 1


def test_remarks_are_told_by_worker_and_a_worker_that_has_not_spoken_is_not_ready() -> None:
    states = WorkerStates()
    assert not states.ready(1)
    states.said(2, State({"trust": "old"}, {"memory": "short"}, None))
    states.said(1, State({}, {"memory": "very short"}, None))
    assert states.remark("memory") == "worker 1: very short; worker 2: short"
    assert states.remark("connections") is None
    assert (states.ready(1), states.ready(2)) == (True, False)
    assert (states.unmet(2), states.unmet(3)) == ({"trust": "old"}, {})
