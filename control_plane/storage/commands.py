"""Commands and submissions: recording, finding, listing, and what is forgotten when it is no longer needed."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.names import is_id
from control_plane.storage.records.accounts import Workspace
from control_plane.storage.records.commands import Command, Submission
from control_plane.storage.records.nodes import Node

SUBMISSION_ORDER = (func.coalesce(Command.wave, 0), Command.node, Command.command_id)
"""By wave, and in it by node. By columns alone SQLite would find a submission's commands among all of the workspace,
by an index of these, to save itself the sorting of a few."""


@dataclass(frozen=True, slots=True)
class CommandKey:
    """What names a command."""

    workspace_id: str
    command_id: str


@dataclass(frozen=True, slots=True)
class CommandFilter:
    """Which commands; None means any."""

    node: str | None = None
    state: str | None = None


async def find(session: AsyncSession, key: CommandKey) -> Command | None:
    """Return the command."""
    return await session.get(Command, (key.workspace_id, key.command_id))


async def find_submission(session: AsyncSession, workspace_id: str, submission_id: str) -> Submission | None:
    """Return the submission."""
    return await session.get(Submission, (workspace_id, submission_id))


async def of_submission(session: AsyncSession, workspace_id: str, submission_id: str) -> Sequence[Command]:
    """Return the commands that a submission became, by node."""
    query = select(Command).where(Command.workspace_id == workspace_id, Command.submission_id == submission_id)
    return (await session.scalars(query.order_by(*SUBMISSION_ORDER))).all()


async def submissions_of(session: AsyncSession, commands: Sequence[Command]) -> dict[tuple[str, str], Submission]:
    """Return the submissions of the commands by (workspace id, submission id)."""
    found: dict[tuple[str, str], Submission] = {}
    for workspace_id in {command.workspace_id for command in commands}:
        names = {command.submission_id for command in commands if command.workspace_id == workspace_id}
        query = select(Submission).where(Submission.workspace_id == workspace_id, Submission.submission_id.in_(names))
        for submission in (await session.scalars(query)).all():
            found[workspace_id, submission.submission_id] = submission
    return found


async def count_open(session: AsyncSession, workspace_id: str | None = None) -> int:
    """Return how many commands are not final."""
    query = select(func.count()).select_from(Command).where(Command.final.is_(False))
    if workspace_id is not None:
        query = query.where(Command.workspace_id == workspace_id)
    return (await session.scalars(query)).one()


async def open_keys(session: AsyncSession) -> Sequence[tuple[CommandKey, str]]:
    """Return the commands that are not final, with their nodes' ids, oldest first."""
    query = (
        select(Command.workspace_id, Command.command_id, Command.node_id)
        .where(Command.final.is_(False))
        .order_by(Command.submit_time)
    )
    rows = (await session.execute(query)).all()
    return [(CommandKey(workspace_id, command_id), node_id) for workspace_id, command_id, node_id in rows]


async def doubt_attempts(session: AsyncSession, accepted_until_ms: int) -> None:
    """Take note that an attempt of a process which is gone may have brought any undelivered command to its node."""
    doubtful = (
        Command.final.is_(False),
        Command.held.is_(False),
        Command.delivered.is_(False),
        Command.maybe_delivered_until.is_(None),
    )
    await session.execute(update(Command).where(*doubtful).values(maybe_delivered_until=accepted_until_ms))


async def open_of_node(session: AsyncSession, node_id: str) -> Sequence[Command]:
    """Return a node's commands that are not final."""
    query = select(Command).where(Command.node_id == node_id, Command.final.is_(False))
    return (await session.scalars(query)).all()


async def taken_ids(session: AsyncSession, workspace_id: str, command_ids: Sequence[str]) -> bool:
    """Tell whether any of the command ids is taken."""
    query = select(Command.command_id).where(Command.workspace_id == workspace_id, Command.command_id.in_(command_ids))
    return (await session.scalars(query.limit(1))).first() is not None


async def node_of(session: AsyncSession, command: Command) -> tuple[Workspace, Node] | None:
    """Return where the command is to run, or None if that was deleted."""
    workspace = await session.get(Workspace, command.workspace_id)
    node = await session.get(Node, command.node_id)
    if workspace is None or workspace.delete_time is not None or node is None:
        return None
    return workspace, node


async def list_page(
    session: AsyncSession, workspace_id: str, wanted: CommandFilter, *, after: tuple[int, str] | None, most: int
) -> Sequence[Command]:
    """Return commands, newest first, that come after (submit time, command id)."""
    query = select(Command).where(Command.workspace_id == workspace_id)
    if wanted.node is not None:
        column = Command.node_id if is_id(wanted.node) else Command.node
        query = query.where(column == wanted.node)
    if wanted.state is not None:
        query = query.where(Command.state == wanted.state)
    if after is not None:
        query = query.where(_older_than(*after))
    order = (Command.submit_time.desc(), Command.command_id.desc())
    return (await session.scalars(query.order_by(*order).limit(most))).all()


def _older_than(submit_time: int, command_id: str) -> ColumnElement[bool]:
    return tuple_(Command.submit_time, Command.command_id) < (submit_time, command_id)


async def forget_spec(session: AsyncSession, command: Command) -> None:
    """Forget what nodes were to be sent, once every command of the submission was delivered or has ended."""
    waiting = select(Command.command_id).where(
        Command.workspace_id == command.workspace_id,
        Command.submission_id == command.submission_id,
        Command.final.is_(False),
        Command.delivered.is_(False),
    )
    if (await session.scalars(waiting.limit(1))).first() is None:
        statement = update(Submission).where(
            Submission.workspace_id == command.workspace_id, Submission.submission_id == command.submission_id
        )
        await session.execute(statement.values(spec=None))
