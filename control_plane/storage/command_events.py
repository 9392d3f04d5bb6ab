"""The events of commands: appended in the transaction that they tell of, a bounded number for each command."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import CommandEvent


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
