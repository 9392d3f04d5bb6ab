"""The event log: what happened to single commands, in their table, and the bell for those who follow it."""

from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.history.bell import Bell
from control_plane.history.events import Event, EventKind
from control_plane.storage import command_events
from control_plane.storage.commands import CommandKey
from control_plane.storage.records.commands import Command
from trunkline.runtime.clock import Clock

MOST_EVENTS = 200
_ALWAYS = frozenset({EventKind.ENDED, EventKind.OUTPUT_KEPT, EventKind.OUTPUT_GONE, EventKind.CANCEL_ASKED})


class EventLog:
    """Holds `MOST_EVENTS` of a command, and beyond them only those that come once."""

    def __init__(self, bell: Bell, clock: Clock) -> None:
        self._bell = bell
        self._clock = clock

    def append(self, session: AsyncSession, command: Command, event: Event) -> None:
        """Add an event to the transaction."""
        command.event_count = (command.event_count or 0) + 1
        if event.kind not in _ALWAYS:
            if command.event_count > MOST_EVENTS:
                return
            if command.event_count == MOST_EVENTS:
                event = Event(EventKind.NOT_RECORDED)
        key = CommandKey(command.workspace_id, command.command_id)
        command_events.append(session, key, int(self._clock.now() * 1000), event.kind, event.details)

    def ring(self, key: CommandKey) -> None:
        """Wake the followers of a command, now that what was appended is committed."""
        self._bell.ring(key)
