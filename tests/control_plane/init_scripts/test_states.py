"""When an operator may ask for another initialisation: every state against the numbers that may be asked for."""

import pytest

from control_plane.init_scripts.states import Answer, InitState, judge_request


@pytest.mark.parametrize(
    ("state", "requested", "answers"),
    [
        # For the numbers 1 to 4, the last run being 2; for no run at all, the last is 0.
        (InitState.READY, True, "refuse same begin refuse"),
        (InitState.READY, False, "refuse refuse begin refuse"),
        (InitState.INIT_FAILED, True, "refuse same begin refuse"),
        (InitState.PENDING, True, "refuse same begin refuse"),
        (InitState.PENDING, False, "refuse refuse begin refuse"),
        (InitState.INITIALISING, True, "refuse same refuse refuse"),
        (InitState.INITIALISING, False, "refuse refuse refuse refuse"),
    ],
)
def test_the_table(state: InitState, requested: bool, answers: str):
    assert [judge_request(wanted, 2, state, requested=requested).value for wanted in (1, 2, 3, 4)] == answers.split()


def test_a_node_of_before_begins_at_one():
    assert judge_request(1, 0, None, requested=False) is Answer.BEGIN
    assert judge_request(2, 0, None, requested=False) is Answer.REFUSE


def test_what_is_final():
    assert {state for state in InitState if state.final} == {InitState.READY, InitState.INIT_FAILED}
