"""Submissions as the API shows them, and what a command that is held back is said to wait for."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from control_plane.fleet.command_steps import FINAL_STATES
from control_plane.fleet.rollout_conductor import plan_of
from control_plane.storage.records.commands import Command, Submission

CountsByWave = Mapping[int | None, Mapping[str, int]]


def view_submission(submission: Submission, counts: CountsByWave) -> dict[str, Any]:
    """Return a submission with how many of its commands are in which state, as a whole and by wave."""
    total = Counter[str]()
    for states in counts.values():
        total.update(states)
    view = {
        "submission_id": submission.submission_id,
        "state": _state(submission, total),
        "argv": submission.argv or None,
        "named": submission.named,
        "parameters": submission.parameters,
        "secrets": submission.secrets,
        "submitted_by": submission.submitted_by,
        "creation_time": submission.creation_time,
        "nodes": total.total(),
        "counts": dict(sorted(total.items())),
        "stop_reason": submission.stop_reason,
        "rollout": None if submission.rollout is None else _view_rollout(submission, submission.rollout, counts),
    }
    return {key: value for key, value in view.items() if value is not None}


def held_reason(command: Command, submission: Submission) -> str:
    """Return what a command that is held back waits for."""
    plan = plan_of(submission.rollout or {})
    under_way, own = submission.wave or 0, command.wave or 0
    if submission.stop_reason is not None:
        return "its submission was stopped"
    if own > under_way:
        return f"held back: wave {own + 1} of {len(plan.waves)} waits for the end of wave {own}"
    return f"held back: at most {plan.max_concurrent} run at once"


def _state(submission: Submission, total: Counter[str]) -> str:
    if any(state not in FINAL_STATES for state in total):
        return "RUNNING"
    if submission.stop_reason is not None:
        return "STOPPED"
    return "SUCCEEDED" if set(total) <= {"SUCCEEDED"} else "FAILED"


def _view_rollout(submission: Submission, rollout: Mapping[str, Any], counts: CountsByWave) -> dict[str, Any]:
    plan = plan_of(rollout)
    pause_ends = None if submission.wave_over_time is None else submission.wave_over_time + plan.pause_milliseconds
    view = {
        "max_concurrent": plan.max_concurrent,
        "max_failures": plan.max_failures,
        "pause_seconds": plan.pause_milliseconds / 1000,
        "canary": plan.canary,
        "wave": (submission.wave or 0) + 1,
        "next_wave_time": pause_ends,
        "waves": [
            {"wave": wave + 1, "nodes": size, "counts": dict(sorted(counts.get(wave, {}).items()))}
            for wave, size in enumerate(plan.waves)
        ],
    }
    return {key: value for key, value in view.items() if value is not None}
