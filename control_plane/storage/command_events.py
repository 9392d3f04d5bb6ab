"""The events of commands: appended in the transaction that they tell of, a bounded number for each command."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command, CommandEvent

BATCH = 5_000


def append(session: AsyncSession, key: CommandKey, time_ms: int, event: str, details: Mapping[str, Any]) -> None:
    """Add an event to the transaction."""
    session.add(
        CommandEvent(
            workspace_id=key.workspace_id,
            command_id=key.command_id,
            time=time_ms,
            event=event,
            details=dict(details),
        )
    )


async def list_after(session: AsyncSession, key: CommandKey, *, after: int, most: int) -> Sequence[CommandEvent]:
    """Return the command's events that come after the event with the id `after`, in order."""
    query = select(CommandEvent).where(
        CommandEvent.workspace_id == key.workspace_id,
        CommandEvent.command_id == key.command_id,
        CommandEvent.event_id > after,
    )
    return (await session.scalars(query.order_by(CommandEvent.event_id).limit(most))).all()


async def remove_forgotten(session: AsyncSession) -> None:
    """Forget events of commands that are forgotten, `BATCH` at most."""
    has_command = select(Command.command_id).where(
        Command.workspace_id == CommandEvent.workspace_id, Command.command_id == CommandEvent.command_id
    )
    forgotten = select(CommandEvent.event_id).where(~has_command.exists()).limit(BATCH)
    await session.execute(delete(CommandEvent).where(CommandEvent.event_id.in_(forgotten)))
