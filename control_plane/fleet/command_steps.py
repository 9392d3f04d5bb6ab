"""What to do next about a command, and what an answer makes of it: decisions as pure functions.

A command is *delivered* once the node has said that it has it. An attempt that ended without an answer leaves open
whether the node has it, until the token of the attempt can no longer be accepted. From this follows when it may be
said that a command never ran:

    held                                nothing: it waits for its rollout; a cancel ends it CANCELLED
    not delivered, no attempt open      a cancel ends it CANCELLED, the delivery deadline ends it LOST
    not delivered, an attempt open      the node is asked; "unknown" counts only after the attempt's token has expired
    delivered                           only the node's own word ends it, or the node's deletion or revocation
"""

from enum import Enum

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.storage.records.commands import Command
from control_plane.storage.text import storable

UNKNOWN = "UNKNOWN"
FINAL_STATES = frozenset({"SUCCEEDED", "FAILED", "TIMED_OUT", "CANCELLED", "LOST"})
STATES = FINAL_STATES | {"QUEUED", "RUNNING", "CANCELLING", UNKNOWN}
LONGEST_REASON = 1024

FIRST_POLL_SECONDS = 0.2
POLL_GROWTH = 1.6
SLOWEST_POLL_SECONDS = 10.0
SLOWEST_DELIVERY_SECONDS = 3.0
WATCHED_POLL_SECONDS = 30.0


class Step(Enum):
    """What to do next."""

    NOTHING = "nothing"
    HOLD = "hold"
    DELIVER = "deliver"
    ASK = "ask"
    CANCEL = "cancel"
    CANCEL_UNSENT = "cancel unsent"
    GIVE_UP = "give up"


class NodeCommand(BaseModel):
    """What a node says of a command; unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    state: str
    exit_code: int | None = Field(default=None, ge=-(2**31), lt=2**31)
    signal: int | None = Field(default=None, ge=0, le=255)
    reason: str | None = None
    submit_time: int | None = Field(default=None, ge=0, lt=2**53)
    start_time: int | None = Field(default=None, ge=0, lt=2**53)
    end_time: int | None = Field(default=None, ge=0, lt=2**53)
    stdout_bytes: int = Field(default=0, ge=0, lt=2**53)
    stderr_bytes: int = Field(default=0, ge=0, lt=2**53)
    stdout_dropped_bytes: int = Field(default=0, ge=0, lt=2**53)
    stderr_dropped_bytes: int = Field(default=0, ge=0, lt=2**53)
    revision: int | None = Field(default=None, ge=0, lt=2**53)


class BadAnswerError(Exception):
    """What the node said of a command cannot be understood."""


def next_step(command: Command, now_ms: int) -> Step:
    """Return what to do next about the command."""
    if command.final:
        return Step.NOTHING
    if command.held:
        return Step.CANCEL_UNSENT if command.cancel_requested else Step.HOLD
    if command.delivered:
        return Step.CANCEL if command.cancel_requested and command.state != "CANCELLING" else Step.ASK
    if command.cancel_requested:
        return Step.CANCEL_UNSENT if command.maybe_delivered_until is None else Step.ASK
    if now_ms < command.deliver_before:
        return Step.DELIVER
    return Step.GIVE_UP if command.maybe_delivered_until is None else Step.ASK


def read_answer(body: bytes) -> NodeCommand:
    """Return what a node says of a command.

    Raises:
        BadAnswerError: it is not what agents send.
    """
    try:
        said = NodeCommand.model_validate_json(body)
    except ValidationError:
        raise BadAnswerError("the node's answer could not be read") from None
    if said.state not in STATES - {UNKNOWN}:
        raise BadAnswerError("the node names a state that is not known here")
    return said


def heard(command: Command, said: NodeCommand) -> None:
    """Take over what the node says; it has the command."""
    command.delivered = True
    command.maybe_delivered_until = None
    command.unknown_since = None
    command.state = said.state
    command.final = said.state in FINAL_STATES
    command.exit_code = said.exit_code
    command.signal = said.signal
    command.reason = _short(said.reason)
    # A start is told of, and written down, once: a node that says now one thing and now another cannot repeat it.
    command.start_time = command.start_time if said.start_time is None else said.start_time
    command.end_time = said.end_time
    command.stdout_bytes = said.stdout_bytes
    command.stderr_bytes = said.stderr_bytes
    command.stdout_dropped_bytes = said.stdout_dropped_bytes or None
    command.stderr_dropped_bytes = said.stderr_dropped_bytes or None


def not_asked(command: Command, reason: str, now_ms: int) -> None:
    """Take note that the node cannot be asked at present."""
    if command.unknown_since is None or command.state != UNKNOWN:
        command.unknown_since = now_ms
    command.state = UNKNOWN
    command.reason = _short(reason)


def unanswered(command: Command, reason: str, now_ms: int, *, accepted_until_ms: int) -> None:
    """Take note that an attempt to deliver may have arrived, and until when it could be accepted."""
    doubt(command, accepted_until_ms)
    not_asked(command, reason, now_ms)


def doubt(command: Command, accepted_until_ms: int) -> None:
    """Take note that an attempt may have brought an undelivered command to its node, and until when it still could."""
    if not command.delivered:
        command.maybe_delivered_until = max(command.maybe_delivered_until or 0, accepted_until_ms)


def unknown_to_node(command: Command, now_ms: int) -> None:
    """Take note that the node says it does not have the command."""
    if command.delivered:
        end(command, "LOST", "the node no longer knows this command", now_ms)
    elif command.maybe_delivered_until is not None and now_ms <= command.maybe_delivered_until:
        not_asked(command, "the node does not have the command yet; an attempt may still arrive", now_ms)
    elif command.cancel_requested:
        end(command, "CANCELLED", "cancelled before it reached the node", now_ms)
    elif now_ms < command.deliver_before:
        command.maybe_delivered_until = None
    else:
        end(command, "LOST", "it never reached the node", now_ms)


def end(command: Command, state: str, reason: str, now_ms: int) -> None:
    """End the command for good."""
    command.state = state
    command.final = True
    command.unknown_since = None
    command.reason = _short(reason)
    command.end_time = now_ms


def next_delay_seconds(step: Step, attempt: int, slowest_poll_seconds: float = SLOWEST_POLL_SECONDS) -> float:
    """Return how long to wait before the next step, after so many steps without a change; jitter comes on top."""
    slowest = SLOWEST_DELIVERY_SECONDS if step is Step.DELIVER else slowest_poll_seconds
    return min(slowest, FIRST_POLL_SECONDS * POLL_GROWTH ** min(attempt, 32))


def _short(reason: str | None) -> str | None:
    return storable(reason, LONGEST_REASON) if reason is not None else None
