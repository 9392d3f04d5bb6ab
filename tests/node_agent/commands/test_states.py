import pytest

from node_agent.commands.states import (
    TERMINAL,
    TRANSITIONS,
    CommandEvent,
    CommandState,
    TransitionRefused,
    next_state,
)


def test_every_state_has_a_line_in_the_table():
    assert set(TRANSITIONS) == set(CommandState)


@pytest.mark.parametrize("state", [state for state in CommandState if state in TERMINAL])
@pytest.mark.parametrize("event", list(CommandEvent))
def test_nothing_leads_out_of_a_terminal_state(state, event):
    with pytest.raises(TransitionRefused):
        next_state(state, event)


@pytest.mark.parametrize("state", [state for state in CommandState if not state.terminal])
def test_every_other_state_can_be_lost(state):
    assert next_state(state, CommandEvent.AGENT_ENDED) is CommandState.LOST


def test_every_state_can_be_reached_from_queued():
    reached, waiting = set(), [CommandState.QUEUED]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += TRANSITIONS[state].values()
    assert reached == set(CommandState)


def test_a_cancelled_command_is_cancelled_however_its_process_ends():
    for event in (CommandEvent.EXITED_WELL, CommandEvent.EXITED_BADLY):
        assert next_state(CommandState.CANCELLING, event) is CommandState.CANCELLED
