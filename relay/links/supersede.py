"""Which of two links may speak for a node: the rules of supersession as one table."""

from enum import Enum, auto
from typing import NamedTuple


class Incumbent(NamedTuple):
    """What is known of the link that a node has.

    Attributes:
        instance: the agent process's UUID.
        sequence: the number that the agent process gave the link.
        gone: the link has ended, or has said goodbye.
    """

    instance: str
    sequence: int
    gone: bool


class Verdict(Enum):
    """What becomes of a new link."""

    ADMIT = auto()
    """There is no other, or the other has ended or said goodbye."""
    SUPERSEDE = auto()
    """The same process dialled again: the new link takes new calls, the old one finishes its own."""
    STALE = auto()
    """The same process has a newer link already: this one lost a race, and is refused."""
    CHALLENGE = auto()
    """Another process: the old link is pinged. Silent, it is replaced; if it answers, the new one is a clone."""


def judge(incumbent: Incumbent | None, instance: str, sequence: int) -> Verdict:
    """Decide what becomes of a new link of a node that has the link `incumbent`, or none.

    A process's own numbers count even after its goodbye, so that a late duplicate never revives an old link.
    """
    if incumbent is None:
        return Verdict.ADMIT
    if incumbent.instance == instance:
        if sequence <= incumbent.sequence:
            return Verdict.STALE
        return Verdict.ADMIT if incumbent.gone else Verdict.SUPERSEDE
    return Verdict.ADMIT if incumbent.gone else Verdict.CHALLENGE
