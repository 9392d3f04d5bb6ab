"""Submissions: listing, counting their commands, and what rollouts do to the commands that they hold."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import SUBMISSION_ORDER
from control_plane.storage.records.commands import Command, Submission


class SubmissionKey(NamedTuple):
    """What names a submission."""

    workspace_id: str
    submission_id: str


class StateCount(NamedTuple):
    """How many commands of a wave are in one situation.

    `overdue` is that their delivery deadline is past, `silent` that their nodes could not be asked for long.
    """

    wave: int | None
    state: str
    final: bool
    held: bool
    delivered: bool
    tried: bool
    overdue: bool
    silent: bool
    number: int


async def lock(session: AsyncSession, key: SubmissionKey) -> Submission | None:
    """Return the submission, which nobody else changes until the transaction has ended."""
    return await session.get(Submission, key, with_for_update=True)


async def open_rollouts(session: AsyncSession) -> Sequence[SubmissionKey]:
    """Return the submissions whose rollout has not ended."""
    query = select(Submission.workspace_id, Submission.submission_id).where(Submission.rollout_open.is_(True))
    return [SubmissionKey(*row) for row in (await session.execute(query)).all()]


async def count_commands(
    session: AsyncSession, key: SubmissionKey, *, overdue_before_ms: int, silent_before_ms: int
) -> Sequence[StateCount]:
    """Return how many commands of the submission are in which situation.

    Args:
        session: the transaction.
        key: the submission.
        overdue_before_ms: which delivery deadlines count as past.
        silent_before_ms: since when a node must not have been asked in vain to count as silent.
    """
    situation = (
        Command.wave,
        Command.state,
        Command.final,
        Command.held,
        Command.delivered,
        case((Command.maybe_delivered_until.is_not(None), True), else_=False),
        case((Command.deliver_before < overdue_before_ms, True), else_=False),
        case((Command.unknown_since < silent_before_ms, True), else_=False),
    )
    query = select(*situation, func.count()).where(_of(key)).group_by(*situation)
    rows = (await session.execute(query)).all()
    return [
        StateCount(wave, state, final, held, delivered, bool(tried), bool(overdue), bool(silent), number)
        for wave, state, final, held, delivered, tried, overdue, silent, number in rows
    ]


async def state_counts(
    session: AsyncSession, keys: Iterable[SubmissionKey]
) -> dict[SubmissionKey, dict[int | None, dict[str, int]]]:
    """Return how many commands are in which state, by submission and wave; at most a page of submissions."""
    found: dict[SubmissionKey, dict[int | None, dict[str, int]]] = {key: {} for key in keys}
    columns = (Command.submission_id, Command.wave, Command.state)
    for workspace_id in {key.workspace_id for key in found}:
        # Pairs of the two would be looked for in the whole table, by SQLite.
        ids = [key.submission_id for key in found if key.workspace_id == workspace_id]
        named = Command.workspace_id == workspace_id, Command.submission_id.in_(ids)
        query = select(*columns, func.count()).where(*named).group_by(*columns)
        for submission_id, wave, state, number in (await session.execute(query)).all():
            found[SubmissionKey(workspace_id, submission_id)].setdefault(wave, {})[state] = number
    return found


async def list_page(
    session: AsyncSession, workspace_id: str, *, after: tuple[int, str] | None, most: int
) -> Sequence[Submission]:
    """Return submissions, newest first, that come after (creation time, submission id)."""
    query = select(Submission).where(Submission.workspace_id == workspace_id)
    if after is not None:
        query = query.where(_older_than(*after))
    order = (Submission.creation_time.desc(), Submission.submission_id.desc())
    return (await session.scalars(query.order_by(*order).limit(most))).all()


async def command_page(
    session: AsyncSession, key: SubmissionKey, *, after: tuple[int, str, str] | None, most: int
) -> Sequence[Command]:
    """Return commands in the order of the rollout that come after (wave, node, command id)."""
    query = select(Command).where(_of(key))
    if after is not None:
        query = query.where(tuple_(*SUBMISSION_ORDER) > after)
    return (await session.scalars(query.order_by(*SUBMISSION_ORDER).limit(most))).all()


async def let_go(
    session: AsyncSession, key: SubmissionKey, wave: int, number: int, *, deliver_before_ms: int
) -> Sequence[Command]:
    """Release the next held commands of a wave, in their order; their delivery deadline begins to run."""
    query = select(Command).where(
        _of(key),
        Command.wave == wave,
        Command.held.is_(True),
        Command.final.is_(False),
        Command.cancel_requested.is_(False),
    )
    released = (await session.scalars(query.order_by(*SUBMISSION_ORDER).limit(number))).all()
    for command in released:
        command.held = False
        command.deliver_before = deliver_before_ms
    return released


async def to_stop(session: AsyncSession, key: SubmissionKey, *, unsent_only: bool) -> Sequence[Command]:
    """Return the commands that have not ended, or of these only what no node has for all that is known."""
    query = select(Command).where(_of(key), Command.final.is_(False))
    if unsent_only:
        query = query.where(Command.delivered.is_(False), Command.maybe_delivered_until.is_(None))
    return (await session.scalars(query)).all()


def _of(key: SubmissionKey) -> ColumnElement[bool]:
    return and_(Command.workspace_id == key.workspace_id, Command.submission_id == key.submission_id)


def _older_than(creation_time: int, submission_id: str) -> ColumnElement[bool]:
    return tuple_(Submission.creation_time, Submission.submission_id) < (creation_time, submission_id)
