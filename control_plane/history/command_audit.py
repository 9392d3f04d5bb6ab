"""What the audit says of a command's start and end: who ran what, by its hash, and what the node decided."""

from dataclasses import dataclass
from typing import Any

from control_plane.history.events import Event, EventKind
from control_plane.storage.audit import Happening
from control_plane.storage.records.commands import Command, Submission

REFUSED = "refused by the node"
_ACTIONS = {EventKind.STARTED: "command.start", EventKind.ENDED: "command.finish"}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a node said when it was asked to take a command, or to tell of it.

    `rule` is the owner's rule by which it refused; `taken_time` when it took the command, by its own clock.
    """

    refused: bool = False
    rule: str | None = None
    taken_time: int | None = None


def happening_of(
    event: Event, command: Command, submission: Submission | None, decision: Decision | None
) -> Happening | None:
    """Return the audit event that an event of a command is, or None if it is none."""
    action = _ACTIONS.get(event.kind)
    if action is None:
        return None
    refused = decision is not None and decision.refused and event.kind is EventKind.ENDED
    rule = decision.rule if refused and decision is not None else None
    details = about(command, submission) | dict(event.details) | ({} if rule is None else {"policy_rule": rule})
    return Happening(action, REFUSED if refused else "ok", command.command_id, command.workspace_id, details)


def about(command: Command, submission: Submission | None) -> dict[str, Any]:
    """Return what the audit says of every command: where it runs, for whom, and the hash of what was asked for."""
    place = {"node_id": command.node_id, "node": command.node}
    if submission is None:
        return place
    return place | {"body_sha256": submission.body_sha256, "submitted_by": submission.submitted_by}
