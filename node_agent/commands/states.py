"""The life of a command: its states, what happens to it, and the one table of what leads where.

A command is `QUEUED` once its intent is on the disk, `RUNNING` while its process lives, and `CANCELLING` from a cancel
until the process is gone. The other states are terminal: nothing leads out of them. `LOST` says that the outcome is not
known, because the agent, not the command, ended.
"""

from enum import Enum


class CommandState(Enum):
    """Where a command is in its life; the values are those of the API and of the records on disk."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def terminal(self) -> bool:
        """Whether the command has ended for good."""
        return self in TERMINAL


class CommandEvent(Enum):
    """What can happen to a command."""

    STARTED = "started"
    START_FAILED = "start failed"
    CANCEL_ASKED = "cancel asked"
    EXITED_WELL = "exited with status 0"
    EXITED_BADLY = "exited with another status or by a signal"
    TIME_RAN_OUT = "ended because its time ran out"
    AGENT_ENDED = "the agent ended"


TERMINAL = frozenset(
    {
        CommandState.SUCCEEDED,
        CommandState.FAILED,
        CommandState.TIMED_OUT,
        CommandState.CANCELLED,
        CommandState.LOST,
    }
)

TRANSITIONS: dict[CommandState, dict[CommandEvent, CommandState]] = {
    CommandState.QUEUED: {
        CommandEvent.STARTED: CommandState.RUNNING,
        CommandEvent.START_FAILED: CommandState.FAILED,
        CommandEvent.CANCEL_ASKED: CommandState.CANCELLED,
        CommandEvent.AGENT_ENDED: CommandState.LOST,
    },
    CommandState.RUNNING: {
        CommandEvent.CANCEL_ASKED: CommandState.CANCELLING,
        CommandEvent.EXITED_WELL: CommandState.SUCCEEDED,
        CommandEvent.EXITED_BADLY: CommandState.FAILED,
        CommandEvent.TIME_RAN_OUT: CommandState.TIMED_OUT,
        CommandEvent.AGENT_ENDED: CommandState.LOST,
    },
    CommandState.CANCELLING: {
        CommandEvent.EXITED_WELL: CommandState.CANCELLED,
        CommandEvent.EXITED_BADLY: CommandState.CANCELLED,
        CommandEvent.TIME_RAN_OUT: CommandState.TIMED_OUT,
        CommandEvent.AGENT_ENDED: CommandState.LOST,
    },
    **{state: {} for state in TERMINAL},
}


class TransitionRefused(Exception):  # noqa: N818 - the table says no
    """The event cannot happen to a command in that state."""


def next_state(state: CommandState, event: CommandEvent) -> CommandState:
    """Return the state that `event` leads to from `state`.

    Raises:
        TransitionRefused: the table has no such line; the command stays as it is.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise TransitionRefused(f"a command that is {state.value} cannot have: {event.value}") from None
