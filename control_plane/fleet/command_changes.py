"""What a step found out about a command, as the change of its record that follows from it."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass

from control_plane.fleet.command_steps import (
    BadAnswerError,
    NodeCommand,
    Step,
    doubt,
    end,
    heard,
    not_asked,
    read_answer,
    unanswered,
    unknown_to_node,
)
from control_plane.history.command_audit import Decision
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.text import storable

_TRY_AGAIN = frozenset({401, 408, 425, 429, 500, 502, 503, 504, 507})
_MESSAGE_CHARACTERS = 400
_RULE_CHARACTERS = 100
_UNREAD_BYTES = 200
"""Of an answer that is no error document."""


@dataclass(frozen=True, slots=True)
class Change:
    """`apply` takes it over into the record, at a time in milliseconds.

    `decision` is what the audit is to say of the node; `revision` the state of the command that the node counted.
    """

    apply: Callable[[Command, int], None]
    decision: Decision | None = None
    revision: int | None = None


def attempted(accepted_until_ms: int) -> Change:
    """There was an attempt of which nothing could be recorded, and which the node could accept so long."""
    return Change(lambda command, now_ms: doubt(command, accepted_until_ms))


def never_sent(submission: Submission | None) -> Change:
    """The command was cancelled, or its rollout stopped, before any attempt."""
    stopped = submission.stop_reason if submission is not None else None
    return _ended("CANCELLED", "cancelled before it reached the node" if stopped is None else f"never sent: {stopped}")


def given_up(command: Command) -> Change:
    """The time for its delivery is over, and the node does not have it."""
    return _ended("LOST", f"it was not delivered: {command.reason or 'no attempt was made'}")


def barred(command: Command, reason: str) -> Change:
    """Nothing may be sent to the node: whoever waits is told, unless the command may have arrived before."""
    if command.maybe_delivered_until is not None:
        return not_reached(reason)
    return _ended("LOST", f"it was not delivered: {reason}")


def out_of_reach(reason: str) -> Change:
    """The node will never be heard again; what it has may go on there."""
    return _ended("LOST", f"{reason}: how it ended, if it has, will not be known")


def not_reached(reason: str, perhaps_until_ms: int | None = None) -> Change:
    """The node could not be asked; where a command may have been brought to it, it could accept that so long."""
    if perhaps_until_ms is None:
        return Change(lambda command, now_ms: not_asked(command, reason, now_ms))
    return Change(lambda command, now_ms: unanswered(command, reason, now_ms, accepted_until_ms=perhaps_until_ms))


def judged(step: Step, status: int, body: bytes, perhaps_until_ms: int | None) -> Change:
    """The node answered the call of a step; `perhaps_until_ms` as of `not_reached`."""
    if status in (200, 201, 202):
        try:
            return _told(read_answer(body))
        except BadAnswerError as error:
            return not_reached(str(error), perhaps_until_ms)
    if status == 404 and step is not Step.DELIVER:
        return Change(unknown_to_node)
    if step is not Step.DELIVER or status in _TRY_AGAIN:
        return not_reached(f"the node answered {status}: {_message(body)}")
    return _ended("LOST", f"the node refused it ({status}): {_message(body)}", Decision(refused=True, rule=_rule(body)))


def _told(said: NodeCommand) -> Change:
    decision = Decision(taken_time=said.submit_time)
    return Change(lambda command, now_ms: heard(command, said), decision, said.revision)


def _ended(state: str, reason: str, decision: Decision | None = None) -> Change:
    return Change(lambda command, now_ms: end(command, state, reason, now_ms), decision)


def _message(body: bytes) -> str:
    """Return the message of a node's error document, or the beginning of whatever it sent."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        message = document.get("message") if isinstance(document, dict) else None
        if isinstance(message, str):
            return message[:_MESSAGE_CHARACTERS]
    return body[:_UNREAD_BYTES].decode("utf-8", "replace").strip()


def _rule(body: bytes) -> str | None:
    """Return the owner's rule that a node's error document names."""
    with contextlib.suppress(ValueError, RecursionError):
        document = json.loads(body)
        details = document.get("details") if isinstance(document, dict) else None
        for detail in details if isinstance(details, list) else [details]:
            rule = detail.get("policy_rule") if isinstance(detail, dict) else None
            if isinstance(rule, str):
                return storable(rule, _RULE_CHARACTERS)
    return None
