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
from control_plane.storage.records.nodes import HealthObservation, Node

BATCH = 500
EVENT_BATCH = 5_000
NODE_BATCH = 100
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


async def forget_deleted(session: AsyncSession) -> Forgotten:
    """Forget a piece of a workspace that was deleted: commands, submissions, nodes, and last the workspace itself."""
    query = select(Workspace).where(Workspace.delete_time.is_not(None)).limit(1)
    workspace = (await session.scalars(query)).one_or_none()
    if workspace is None:
        return Forgotten([], more=False)
    of_commands = select(Command).where(Command.workspace_id == workspace.workspace_id).limit(BATCH)
    if found := (await session.scalars(of_commands)).all():
        return Forgotten(await _forget(session, workspace.workspace_id, found), more=True)
    if not (await _forget_submissions(session, workspace) or await _forget_nodes(session, workspace)):
        await session.delete(workspace)
    return Forgotten([], more=True)


async def _forget_submissions(session: AsyncSession, workspace: Workspace) -> bool:
    """Forget submissions without commands; returns whether there were any."""
    of_workspace = Submission.workspace_id == workspace.workspace_id
    ids = (await session.scalars(select(Submission.submission_id).where(of_workspace).limit(BATCH))).all()
    if ids:
        await session.execute(delete(Submission).where(of_workspace, Submission.submission_id.in_(ids)))
    return bool(ids)


async def _forget_nodes(session: AsyncSession, workspace: Workspace) -> bool:
    """Forget a few nodes, whose observations may be thousands each; returns whether there were any."""
    query = select(Node.node_id).where(Node.workspace_id == workspace.workspace_id).limit(NODE_BATCH)
    ids = (await session.scalars(query)).all()
    of_nodes = select(HealthObservation.observation_id).where(HealthObservation.node_id.in_(ids)).limit(EVENT_BATCH)
    if observed := (await session.scalars(of_nodes)).all():
        await session.execute(delete(HealthObservation).where(HealthObservation.observation_id.in_(observed)))
    if ids and len(observed) < EVENT_BATCH:
        await session.execute(delete(Node).where(Node.node_id.in_(ids)))
    return bool(ids)


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
