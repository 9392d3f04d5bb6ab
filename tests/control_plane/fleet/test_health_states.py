"""The table of node states, walked through."""

import pytest

from control_plane.fleet.health_states import CheckResult, NodeState, Standing, observe

OK, DEGRADED = CheckResult.OK, CheckResult.DEGRADED
GONE, SILENT, BAD = CheckResult.NOT_REACHED, CheckResult.UNANSWERED, CheckResult.BAD_ANSWER


@pytest.mark.parametrize(
    ("start", "results", "states"),
    [
        ("pending", [OK], ["online"]),
        ("pending", [GONE] * 5 + [OK], ["pending"] * 5 + ["online"]),
        ("pending", [DEGRADED], ["degraded"]),
        ("online", [GONE, OK], ["degraded", "online"]),
        ("online", [GONE, GONE, OK], ["degraded", "degraded", "online"]),
        ("online", [GONE, SILENT, BAD], ["degraded", "degraded", "offline"]),
        ("online", [SILENT], ["degraded"]),
        ("online", [DEGRADED, OK], ["degraded", "online"]),
        ("offline", [OK, OK], ["degraded", "online"]),
        ("offline", [OK, GONE, OK, OK], ["degraded", "offline", "degraded", "online"]),
        ("offline", [GONE], ["offline"]),
        ("offline", [DEGRADED, OK], ["degraded", "online"]),
    ],
)
def test_walk(start: str, results: list[CheckResult], states: list[str]):
    standing = Standing(NodeState(start))
    walked = []
    for result in results:
        standing = observe(standing, result)
        walked.append(standing.state.value)
    assert walked == states


def test_a_node_that_flaps_after_an_outage_is_never_online():
    standing = Standing(NodeState.OFFLINE)
    for _ in range(20):
        standing = observe(observe(standing, OK), GONE)
        assert standing.state is NodeState.OFFLINE


def test_only_an_answer_of_the_agent_counts():
    assert [result.answered for result in (OK, DEGRADED, GONE, SILENT, BAD)] == [True, True, False, False, False]
