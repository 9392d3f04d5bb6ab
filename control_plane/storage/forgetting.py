"""Forgetting commands with all that belongs to them, a bounded number in each transaction.

What is forgotten is found by indices, however long the history is: whoever has to write meanwhile waits for a batch.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import CommandKey
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, CommandEvent, KeptOutput, Submission

BATCH = 500
EVENT_BATCH = 5_000
_CLOCK_ERROR_MS = 24 * 3600 * 1000
"""By how much a node's clock may be ahead and still be believed."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What one transaction has forgotten: whose files are to be removed once it is done, and whether more is left."""

    outputs: Sequence[CommandKey]
    more: bool


async def forget_old(session: AsyncSession, *, before_ms: int, now_ms: int) -> Forgotten:
    """Forget commands that ended before this time, `BATCH` at most, and submissions of which nothing is left.

    Their nodes say when they ended: what was submitted later is kept, and an end that was not said, or is yet to come,
    keeps nothing for longer.
    """
    old = select(Command).where(Command.final.is_(True), Command.submit_time < before_ms)
    ways = (Command.end_time < before_ms, Command.end_time.is_(None), Command.end_time > now_ms + _CLOCK_ERROR_MS)
    found: list[Command] = []
    for ended in ways:
        found += (await session.scalars(old.where(ended).limit(BATCH - len(found)))).all()
    outputs: list[CommandKey] = []
    for workspace_id, commands in _by_workspace(found).items():
        outputs += await _forget(session, workspace_id, commands)
    return Forgotten(outputs, more=len(found) >= BATCH)


async def forget_leavings(session: AsyncSession) -> Forgotten:
    """Forget events and kept outputs that a deleted workspace has left, `EVENT_BATCH` and `BATCH` at most."""
    outputs: list[CommandKey] = []
    of_events, of_outputs = await _gone(session, CommandEvent), await _gone(session, KeptOutput)
    for workspace_id in of_events[:1]:
        events = select(CommandEvent.event_id).where(CommandEvent.workspace_id == workspace_id).limit(EVENT_BATCH)
        await session.execute(delete(CommandEvent).where(CommandEvent.event_id.in_(events)))
    for workspace_id in of_outputs[:1]:
        kept = select(KeptOutput.command_id).where(KeptOutput.workspace_id == workspace_id).limit(BATCH)
        outputs += await _forget_outputs(session, workspace_id, (await session.scalars(kept)).all())
    return Forgotten(outputs, more=bool(of_events or of_outputs))


async def _forget(session: AsyncSession, workspace_id: str, commands: Sequence[Command]) -> list[CommandKey]:
    """Forget these commands of one workspace; returns of which something is kept."""
    ids = [command.command_id for command in commands]
    outputs = await _forget_outputs(session, workspace_id, ids)
    of_commands = CommandEvent.workspace_id == workspace_id, CommandEvent.command_id.in_(ids)
    await session.execute(delete(CommandEvent).where(*of_commands))
    await session.execute(delete(Command).where(Command.workspace_id == workspace_id, Command.command_id.in_(ids)))
    left = select(Command.command_id).where(
        Command.workspace_id == Submission.workspace_id, Command.submission_id == Submission.submission_id
    )
    submissions = {command.submission_id for command in commands}
    of_these = Submission.workspace_id == workspace_id, Submission.submission_id.in_(submissions)
    await session.execute(delete(Submission).where(*of_these, ~left.exists()))
    return outputs


async def _forget_outputs(session: AsyncSession, workspace_id: str, ids: Sequence[str]) -> list[CommandKey]:
    kept = KeptOutput.workspace_id == workspace_id, KeptOutput.command_id.in_(ids)
    found = (await session.scalars(select(KeptOutput.command_id).where(*kept))).all()
    if found:
        await session.execute(delete(KeptOutput).where(*kept))
    return [CommandKey(workspace_id, command_id) for command_id in found]


async def _gone(session: AsyncSession, table: type[CommandEvent] | type[KeptOutput]) -> Sequence[str]:
    """Return the workspaces that rows are left of: from one to the next by the index, never past single rows."""
    present = select(func.min(table.workspace_id).label("workspace_id")).cte("present", recursive=True)
    following = select(func.min(table.workspace_id)).where(table.workspace_id > present.c.workspace_id)
    present = present.union_all(
        select(following.scalar_subquery()).where(present.c.workspace_id.is_not(None)),
    )
    there = select(Workspace.workspace_id)
    query = select(present.c.workspace_id).where(
        present.c.workspace_id.is_not(None), present.c.workspace_id.not_in(there)
    )
    return (await session.scalars(query)).all()


def _by_workspace(commands: Sequence[Command]) -> dict[str, list[Command]]:
    found: defaultdict[str, list[Command]] = defaultdict(list)
    for command in commands:
        found[command.workspace_id].append(command)
    return found
