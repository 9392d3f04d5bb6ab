"""Stopping a submission: its rollout went wrong, or somebody asked for its end.

What is to end is only marked here; the dispatcher ends it, as it does with single commands.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.fleet.command_steps import LONGEST_REASON
from control_plane.storage import submissions
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.submissions import SubmissionKey


async def stop(session: AsyncSession, submission: Submission, reason: str, *, running: bool) -> Sequence[Command]:
    """Ask for the end of the submission's commands; returns those whose next step is now due.

    Args:
        session: the transaction.
        submission: to be stopped; one that has ended stays as it is.
        reason: as it and its commands are to say.
        running: whether to end what nodes have too, not only what none has for all that is known.
    """
    key = SubmissionKey(submission.workspace_id, submission.submission_id)
    left = await submissions.to_stop(session, key, unsent_only=not running)
    for command in left:
        command.cancel_requested = True
    if left and submission.stop_reason is None:
        submission.stop_reason = reason[:LONGEST_REASON]
    return left
