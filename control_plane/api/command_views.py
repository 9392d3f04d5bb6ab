"""Commands as the API shows them."""

from typing import Any

from control_plane.fleet.command_steps import UNKNOWN
from control_plane.fleet.resolution import resolution
from control_plane.fleet.submission_views import held_reason
from control_plane.storage.records.commands import Command, Submission


def view_command(command: Command, submission: Submission) -> dict[str, Any]:
    """Return a command as the API shows it."""
    held = command.held and not command.final
    view = {
        "command_id": command.command_id,
        "submission_id": command.submission_id,
        "wave": command.wave + 1 if command.wave is not None else None,
        "held": held or None,
        "node_id": command.node_id,
        "node": command.node,
        "state": command.state,
        "argv": submission.argv or None,
        "named": submission.named,
        "parameters": submission.parameters,
        "secrets": submission.secrets,
        "exit_code": command.exit_code,
        "signal": command.signal,
        "reason": held_reason(command, submission) if held else command.reason,
        "unknown": _unknown(command),
        "submit_time": command.submit_time,
        "deliver_before": command.deliver_before if _waits(command) else None,
        "start_time": command.start_time,
        "end_time": command.end_time,
        "stdout_bytes": command.stdout_bytes,
        "stderr_bytes": command.stderr_bytes,
        "stdout_dropped_bytes": command.stdout_dropped_bytes,
        "stderr_dropped_bytes": command.stderr_dropped_bytes,
        "submitted_by": submission.submitted_by,
    }
    return {key: value for key, value in view.items() if value is not None}


def _unknown(command: Command) -> dict[str, Any] | None:
    """Return since when and why it is not known how a command is, and how that will be known."""
    if command.state != UNKNOWN:
        return None
    found = resolution(command)
    view = {
        "since": command.unknown_since,
        "reason": command.reason,
        "resolves": found.how,
        "resolves_by": found.by,
    }
    return {key: value for key, value in view.items() if value is not None}


def unknown_just_now(command: Command, now_ms: int) -> dict[str, Any]:
    """Return the view of a command whose node does not answer this very moment, over what is on record."""
    reason = "the node does not answer at present"
    since = command.unknown_since or now_ms
    unknown = {"since": since, "reason": reason, "resolves": resolution(command).how}
    return {"state": UNKNOWN, "reason": reason, "unknown": unknown}


def _waits(command: Command) -> bool:
    """Whether its delivery is being tried; after the last attempt, the deadline is past."""
    return not (command.delivered or command.final or command.cancel_requested or command.held)
