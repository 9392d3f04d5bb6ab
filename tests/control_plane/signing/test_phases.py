"""The table of phases: every step from every phase, one signer in each, a way back until retire, and a way on."""

import pytest

from control_plane.signing.phases import LEAVES, SIGNS, TRANSITIONS, Gate, Phase, Seat, Step, legal_steps

LEGAL = {
    (Phase.STEADY, Step.PREPARE): Phase.PREPARED,
    (Phase.PREPARED, Step.ACTIVATE): Phase.ACTIVATED,
    (Phase.PREPARED, Step.ROLLBACK): Phase.STEADY,
    (Phase.ACTIVATED, Step.RETIRE): Phase.STEADY,
    (Phase.ACTIVATED, Step.ROLLBACK): Phase.ROLLED_BACK,
    (Phase.ROLLED_BACK, Step.ACTIVATE): Phase.ACTIVATED,
    (Phase.ROLLED_BACK, Step.RETIRE): Phase.STEADY,
}


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("step", Step)
def test_every_step_from_every_phase(phase: Phase, step: Step):
    transition = TRANSITIONS.get((phase, step))
    assert (transition.to if transition is not None else None) is LEGAL.get((phase, step))


@pytest.mark.parametrize("phase", Phase)
def test_exactly_one_signs_and_it_is_never_the_one_that_is_left(phase: Phase):
    assert SIGNS[phase] in Seat
    assert LEAVES.get(phase) is not SIGNS[phase]


@pytest.mark.parametrize("phase", Phase)
def test_from_everywhere_steady_can_be_reached(phase: Phase):
    reached = {phase}
    for _ in Phase:
        reached |= {TRANSITIONS[at, step].to for at in reached for step in legal_steps(at)}
    assert Phase.STEADY in reached


def test_a_signer_ends_only_while_another_signs():
    for (phase, _), transition in TRANSITIONS.items():
        assert transition.ends is None or transition.ends is not SIGNS[phase]
        assert (transition.to is Phase.STEADY) == (transition.ends is not None)


def test_whoever_begins_to_sign_is_trusted_by_everybody_first():
    for (phase, _), transition in TRANSITIONS.items():
        if SIGNS[transition.to] is Seat.CANDIDATE and SIGNS[phase] is Seat.INCUMBENT:
            assert transition.gate is Gate.TRUSTED
        if transition.ends is not None and phase is not Phase.PREPARED:
            assert transition.gate is Gate.LEFT
