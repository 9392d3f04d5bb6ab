"""The states of a node's initialisation, and when another may be asked for: values without a database.

    PENDING         the node has not asked for its scripts yet
    INITIALISING    it was handed scripts, and has not said how they ended
    READY           all of them succeeded, or there were none
    INIT_FAILED     one of them failed, or the node's owner allows none; those after it were not run

A node runs each number once. A new number comes with a bootstrap into another state directory, or from an operator.
"""

from enum import Enum


class InitState(Enum):
    """Where a node's initialisation is; the values are those of the API."""

    PENDING = "PENDING"
    INITIALISING = "INITIALISING"
    READY = "READY"
    INIT_FAILED = "INIT_FAILED"

    @property
    def final(self) -> bool:
        """Whether the node has done with this run."""
        return self in (InitState.READY, InitState.INIT_FAILED)


_REPORTED = {state.value: state for state in (InitState.INITIALISING, InitState.READY, InitState.INIT_FAILED)}


def reported_state(word: str) -> InitState | None:
    """Return the state that a node says it is in; None where it has a word that is not known here."""
    return _REPORTED.get(word)


class Answer(Enum):
    """What comes of an operator's wish for the run of a number."""

    BEGIN = "begin"
    SAME = "same"
    REFUSE = "refuse"


def judge_request(wanted_run: int, run: int, state: InitState | None, *, requested: bool) -> Answer:
    """Return what comes of asking for `wanted_run`, given the last run, its state, and whether it was asked for too.

    The number makes the request safe to send twice: the second finds its run begun. One that is under way is not
    overtaken, since its script may still run.
    """
    if wanted_run == run and requested:
        return Answer.SAME
    if wanted_run == run + 1 and state is not InitState.INITIALISING:
        return Answer.BEGIN
    return Answer.REFUSE
